/** What is in the gallery: pictures of every class, the similarity map, counts, and what could not be read. */

import * as api from "../api";
import { useLoad, useSurroundings, useTitle } from "../hooks";
import { useIntake } from "../intake";
import { go, Link } from "../navigation";
import { Atlas } from "../atlas/Atlas";
import { BarLine } from "../parts/bars";
import { Icon } from "../parts/icons";
import { Empty } from "../parts/notice";
import { Thumbnail } from "../parts/tile";
import { toggled, NO_FILTER, whereOf } from "../state/filter";
import { columnName, counted, outcomeName, valueName, whole } from "../words";

const MOST_CARDS = 48;

export function HomePage() {
  const { gallery, session } = useSurroundings();
  useTitle(gallery.name);
  if (!gallery.records) return <EmptyGallery canIndex={session.role !== "reader"} />;
  const byClass = Object.keys(gallery.by_class).some(Boolean);
  return (
    <div class="home">
      <header class="lead">
        <div>
          <h1>{gallery.name}</h1>
          <p>{summary(gallery)}</p>
        </div>
        <Invitation />
      </header>
      <div class="columns">
        <section aria-labelledby="kinds-title">
          <header>
            <h2 id="kinds-title">{byClass ? "Classes" : "Modalities"}</h2>
            <Link to={{ page: "browse", filter: NO_FILTER, offset: 0, open: null }}>Browse all images</Link>
          </header>
          <Cards column={byClass ? "class" : "modality"} counts={byClass ? gallery.by_class : gallery.by_modality} />
        </section>
        <section class="side" aria-label="Map and counts">
          <header>
            <h2>Similarity map</h2>
            <Link to={{ page: "map", open: null }}>Large</Link>
          </header>
          <div class="mapbox">
            <Atlas onOpen={(id) => go({ page: "map", open: id })} />
          </div>
          <div class="counts">
            {byClass && <CountList column="modality" counts={gallery.by_modality} />}
            <CountList column="source" counts={gallery.by_source} />
            <Files counts={gallery.files} />
            <About gallery={gallery} />
          </div>
        </section>
      </div>
    </div>
  );
}

function summary(gallery: api.Gallery): string {
  const classes = Object.keys(gallery.by_class).filter(Boolean).length;
  const modalities = Object.keys(gallery.by_modality).filter(Boolean).length;
  return [
    counted(gallery.records, "image"),
    gallery.patients > 0 && counted(gallery.patients, "patient"),
    classes > 0 && counted(classes, "class", "classes"),
    modalities > 0 && counted(modalities, "modality", "modalities"),
  ]
    .filter(Boolean)
    .join(" · ");
}

function Invitation() {
  const intake = useIntake();
  return (
    <button type="button" class="invitation" onClick={() => intake.choose()}>
      <Icon name="upload" />
      <span>
        <strong>Find similar images</strong>
        <span>Drop an image or a DICOM file anywhere, paste it, or choose a file</span>
      </span>
    </button>
  );
}

const mostFirst = (counts: api.Counts) => Object.entries(counts).sort(([, n], [, m]) => m - n);

const browse = (column: string, value: string) =>
  ({ page: "browse", filter: toggled(NO_FILTER, column, value), offset: 0, open: null }) as const;

/** One picture for each value, to enter by. */
function Cards({ column, counts }: { column: string; counts: api.Counts }) {
  const values = mostFirst(counts).slice(0, MOST_CARDS);
  const { value } = useLoad(`cards ${JSON.stringify(values)}`, (signal) => Promise.all(
    values.map(async ([name]) => (await api.records(whereOf(toggled(NO_FILTER, column, name)), 0, 1, signal)).records[0]),
  ));
  return (
    <ul class="cards">
      {values.map(([name, n], i) => {
        const first = value?.[i];
        return (
          <li key={name}>
            <Link to={browse(column, name)}>
              <span class="image">{first && <Thumbnail id={first.id} digest={first.digest} />}</span>
              <span class="name">{valueName(name)}</span>
              <span class="told">{whole(n)}</span>
            </Link>
          </li>
        );
      })}
    </ul>
  );
}

function CountList({ column, counts }: { column: string; counts: api.Counts }) {
  const values = mostFirst(counts);
  const sum = Math.max(1, values.reduce((total, [, n]) => total + n, 0));
  if (values.length < 2 && !values[0]?.[0]) return null;
  return (
    <section>
      <h2>{columnName(column)}</h2>
      <ul class="lines">
        {values.slice(0, 12).map(([value, n]) => (
          <li key={value}>
            <Link to={browse(column, value)}>
              <BarLine name={valueName(value)} told={whole(n)} share={n / sum} />
            </Link>
          </li>
        ))}
      </ul>
      {values.length > 12 && <p class="quiet">and {whole(values.length - 12)} more, in the filters</p>}
    </section>
  );
}

const READ = new Set(["decoded"]);

function Files({ counts }: { counts: api.Counts }) {
  const values = mostFirst(counts).filter(([, n]) => n);
  const lost = values.some(([outcome]) => !READ.has(outcome));
  return (
    <section>
      <h2>Files</h2>
      <ul class="lines">
        {values.map(([outcome, n]) => (
          <li key={outcome} class="plainline">
            <span>{outcomeName(outcome)}</span>
            <span class="told">{whole(n)}</span>
          </li>
        ))}
      </ul>
      {lost && <Link to={{ page: "failed", offset: 0 }}>What was not read, and why</Link>}
    </section>
  );
}

function About({ gallery }: { gallery: api.Gallery }) {
  const { encoder } = gallery;
  const layers = Object.entries(encoder.layers).map(([name, dim]) => `${name} (${dim})`);
  return (
    <section>
      <h2>Encoder</h2>
      <dl class="facts">
        <dt>Name</dt>
        <dd>{encoder.name}</dd>
        <dt>Fingerprint</dt>
        <dd>
          <code>{encoder.fingerprint}</code>
        </dd>
        <dt>Runs in</dt>
        <dd>{encoder.precision}</dd>
        <dt>Layers</dt>
        <dd>{layers.join(", ")}</dd>
        <dt>Classes</dt>
        <dd>{encoder.classes.length || "none"}</dd>
      </dl>
    </section>
  );
}

function EmptyGallery({ canIndex }: { canIndex: boolean }) {
  return (
    <Empty title="This gallery holds no images yet">
      {canIndex ? (
        <p>
          <Link class="button" to={{ page: "jobs", root: null, folder: "" }}>
            Index a folder
          </Link>
        </p>
      ) : (
        <p>Ask whoever runs the server to index a folder.</p>
      )}
    </Empty>
  );
}
