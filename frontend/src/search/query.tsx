/** The query of a search: its pictures, what the encoder takes them for, and whether they belong here at all. */

import * as api from "../api";
import { useLoad } from "../hooks";
import { useIntake } from "../intake";
import { go, Link } from "../navigation";
import { BarLine } from "../parts/bars";
import { Icon } from "../parts/icons";
import { Notice } from "../parts/notice";
import { Picture } from "../parts/tile";
import { fromSeries, queryCount, ranksSeries, withAllFrames, withoutRecord, withoutUpload, type Asked, type UploadRef } from "../state/asked";
import { counted, percent } from "../words";

interface QueryProps {
  asked: Asked;
  result: api.SearchResult | null;
  onChange: (asked: Asked, replace?: boolean) => void;
  onOpen: () => void;
}

const LIKELIEST = 5;

export function QueryPanel({ asked, result, onChange, onOpen }: QueryProps) {
  const intake = useIntake();
  const several = queryCount(asked) > 1;
  const change = (next: Asked) => (queryCount(next) ? onChange(next) : go({ page: "home" }));
  return (
    <section class={several ? "query several" : "query"} aria-label="Query">
      <div class="pictures">
        {asked.ids.map((id) => (
          <RecordPicture key={id} id={id} asked={asked} several={several} onOpen={onOpen} onChange={change} />
        ))}
        {asked.uploads.map((one) => (
          <UploadPicture key={one.upload} one={one} asked={asked} several={several} onOpen={onOpen} onChange={change} onFrame={onChange} />
        ))}
        {asked.series && <SeriesPicture ids={result?.query.ids ?? []} />}
      </div>
      <div class="about">
        {result && <Predicted predicted={result.query.predicted} />}
        {result?.query.in_distribution === false && (
          <Notice kind="warn">
            <p>
              <strong>Unlike this gallery.</strong> Nothing here is as near as images of a known kind usually are. Read the hits with
              caution.
            </p>
          </Notice>
        )}
        {asked.region && (
          <p class="said">
            Only the region of {asked.region[2]} × {asked.region[3]} pixels at {asked.region[0]}, {asked.region[1]} is searched
            with.{" "}
            <button type="button" class="plain" onClick={() => onChange({ ...asked, region: null, offset: 0 })}>
              Use the whole image
            </button>
          </p>
        )}
      </div>
      <div class="doings">
        {!ranksSeries(asked) && !several && (
          <button type="button" onClick={onOpen} title="Look closer, or draw a region to search by">
            <Icon name="region" /> Draw a region
          </button>
        )}
        <button type="button" onClick={() => intake.choose(true)} title="Several images are one query">
          <Icon name="add" /> Add image
        </button>
      </div>
    </section>
  );
}

function Predicted({ predicted }: { predicted: api.SearchResult["query"]["predicted"] }) {
  const [first] = predicted;
  if (!first) return <p class="quiet">This encoder predicts no class.</p>;
  return (
    <div class="predicted">
      <h2>Predicted class</h2>
      <ol>
        {predicted.slice(0, LIKELIEST).map((one, i) => (
          <li key={one.class}>
            <BarLine name={one.class} told={percent(one.probability)} share={one.probability} strong={i === 0} />
          </li>
        ))}
      </ol>
    </div>
  );
}

interface PictureProps {
  asked: Asked;
  several: boolean;
  onOpen: () => void;
  onChange: (asked: Asked) => void;
}

function RecordPicture({ id, asked, several, onOpen, onChange }: PictureProps & { id: string }) {
  const { value } = useLoad("record " + id, (signal) => api.record(id, signal));
  const frame = useLoad(asked.region && "frame " + id, (signal) => api.frameHeader(api.frameOf(id, null), signal)).value;
  const size: [number, number] | null = frame && [frame.rows, frame.columns];
  const words = [value?.class, value?.modality].filter(Boolean).join(" · ");
  return (
    <figure>
      <div class="frame">
        <button type="button" class="look" onClick={onOpen} aria-label={`Query image${words && ": " + words}. Look closer`}>
          <Picture address={api.thumbnailOf(id, value?.digest ?? null)} />
          <RegionMark asked={asked} size={size} />
        </button>
        {several && <RemoveButton onClick={() => onChange(withoutRecord(asked, id))} />}
      </div>
      <figcaption>
        <span>{words || "From the gallery"}</span>
        {value?.series && !several && (
          <Link to={{ page: "search", asked: fromSeries(asked, value.series), open: null }} title="Find series like the whole series of this image">
            Search by its series
          </Link>
        )}
      </figcaption>
    </figure>
  );
}

interface UploadProps extends PictureProps {
  one: UploadRef;
  onFrame: (asked: Asked, replace: boolean) => void;
}

function UploadPicture({ one, asked, several, onOpen, onChange, onFrame }: UploadProps) {
  const { value, problem } = useLoad("upload " + one.upload, (signal) => api.uploadInfo(one.upload, signal));
  const frame = one.frame ?? value?.first ?? 1;
  const size: [number, number] | null = value && [value.rows, value.columns];
  const setFrame = (to: number) => {
    const uploads = asked.uploads.map((other) => (other.upload === one.upload ? { ...other, frame: to } : other));
    onFrame({ ...asked, uploads, offset: 0 }, true);
  };
  if (problem) {
    return (
      <Notice kind="warn">
        <p>This uploaded image is held no longer. Drop or choose the file again.</p>
      </Notice>
    );
  }
  return (
    <figure>
      <div class="frame">
        <button type="button" class="look" onClick={onOpen} aria-label="Your query image. Look closer">
          {value && <Picture address={api.uploadThumbnail(one.upload, frame)} />}
          <RegionMark asked={asked} size={size} />
        </button>
        {several && <RemoveButton onClick={() => onChange(withoutUpload(asked, one.upload))} />}
      </div>
      <figcaption>
        <span>{["Your image", value?.modality].filter(Boolean).join(" · ")}</span>
        {value && value.frames > 1 && (
          <label class="check">
            <input type="checkbox" checked={asked.allFrames} onChange={(event) => onChange(withAllFrames(asked, event.currentTarget.checked))} />
            All frames, for series
          </label>
        )}
        {value && value.frames > 1 && !asked.allFrames && (
          <label class="frames">
            <span>
              Frame {frame} of {value.frames}
            </span>
            <input
              type="range"
              min={1}
              max={value.frames}
              value={frame}
              onChange={(event) => setFrame(event.currentTarget.valueAsNumber)}
            />
          </label>
        )}
      </figcaption>
    </figure>
  );
}

/** ids: of its images. */
function SeriesPicture({ ids }: { ids: string[] }) {
  const [first] = ids;
  return (
    <figure>
      <div class="frame">{first && <Picture address={api.thumbnailOf(first, null)} />}</div>
      <figcaption>
        <span>
          <Icon name="stack" /> A series{ids.length > 0 && ` of ${counted(ids.length, "image")}`}
        </span>
      </figcaption>
    </figure>
  );
}

function RemoveButton({ onClick }: { onClick: () => void }) {
  return (
    <button type="button" class="remove" aria-label="Take this image out of the query" title="Take out of the query" onClick={onClick}>
      <Icon name="close" />
    </button>
  );
}

/** The rectangle that is searched by. size: rows and columns of the image, unknown null. */
function RegionMark({ asked, size }: { asked: Asked; size: [number, number] | null }) {
  if (!asked.region || !size) return null;
  const [x, y, width, height] = asked.region;
  return (
    <svg class="mark" viewBox={`0 0 ${size[1]} ${size[0]}`} aria-hidden="true">
      <rect x={x} y={y} width={width} height={height} vector-effect="non-scaling-stroke" />
    </svg>
  );
}
