/** The images of the gallery under a filter; any of them starts a search. */

import * as api from "../api";
import { useKeys, useLoad, useTitle } from "../hooks";
import { back, go, Link } from "../navigation";
import { FacetPanel, FilterChips } from "../parts/facets";
import { Fold } from "../parts/fold";
import { Icon } from "../parts/icons";
import { Empty, ProblemNotice } from "../parts/notice";
import { Pager } from "../parts/pager";
import { focusedId, focusTile, moveInGrid, Tile } from "../parts/tile";
import { OpenRecord } from "../search/comparison";
import { Skeleton } from "../search/results";
import { fromRecord, fromUploads, USUAL } from "../state/asked";
import { NO_FILTER, whereOf, type Filter } from "../state/filter";
import type { Route } from "../state/route";
import type { ViewerImage } from "../viewer/Viewer";
import { counted } from "../words";

const SIZE = 60;

export const similarTo = (id: string): Route => ({ page: "search", asked: fromRecord(USUAL, id), open: null });

/** What an image that is looked at can lead to, outside of a search. */
export const leadsOn = {
  onFindSimilar: (image: ViewerImage) => {
    if (image.kind === "record") go(similarTo(image.id));
  },
  onRegion: (region: api.Region, image: ViewerImage) => {
    const asked = image.kind === "record" ? fromRecord(USUAL, image.id) : fromUploads(USUAL, [{ upload: image.upload, frame: image.frame }]);
    go({ page: "search", asked: { ...asked, region }, open: null });
  },
};

export function BrowsePage({ filter, offset, open }: { filter: Filter; offset: number; open: string | null }) {
  const where = whereOf(filter);
  const { value, problem, busy, reload } = useLoad(`records ${offset} ${where}`, (signal) => api.records(where, offset, SIZE, signal), true);
  const to = (part: { filter?: Filter; offset?: number; open?: string | null }): Route => ({
    page: "browse",
    filter,
    offset,
    open: null,
    ...part,
  });
  const refilter = (next: Filter) => go(to({ filter: next, offset: 0 }), { keepScroll: true });
  useTitle("Browse");
  useKeys((key) => {
    const id = focusedId();
    if (key !== "f" || !id) return false;
    go(similarTo(id));
    return true;
  });
  return (
    <div class="sided">
      <aside>
        <Fold title="Filters" count={Object.keys(filter.facets).length}>
          <FacetPanel filter={filter} onChange={refilter} />
        </Fold>
      </aside>
      <section class="main" aria-labelledby="browse-title">
        <FilterChips filter={filter} onChange={refilter} />
        <header class="results">
          <h1 id="browse-title">Images</h1>
          <p class="quiet" role="status">
            {value && !busy ? `${counted(value.total, "image")}. Click one to find similar ones.` : "Loading…"}
          </p>
        </header>
        {problem && <ProblemNotice problem={problem} onRetry={reload} />}
        {!problem && !value && <Skeleton n={24} />}
        {!problem && value && !value.total && (
          <Empty title="No image passes this filter">
            <button type="button" onClick={() => refilter(NO_FILTER)}>
              Clear the filter
            </button>
          </Empty>
        )}
        {!problem && value && value.total > 0 && (
          <>
            <ol class={busy ? "grid busy" : "grid"} aria-label="Images of the gallery" onKeyDown={moveInGrid}>
              {value.records.map((record) => (
                <RecordTile key={record.id} record={record} open={to({ open: record.id })} />
              ))}
            </ol>
            <Pager what="images" offset={offset} size={SIZE} shown={value.records.length} total={value.total} to={(next) => to({ offset: next })} />
          </>
        )}
      </section>
      {open && <OpenRecord id={open} {...leadsOn} onClose={() => closeTo(to({}), open)} />}
    </div>
  );
}

function closeTo(route: Route, id: string): void {
  back(route);
  setTimeout(() => focusTile(id), 100);
}

function RecordTile({ record, open }: { record: api.ImageRecord; open: Route }) {
  const label = [record.class ?? "no class", record.modality].filter(Boolean).join(", ");
  return (
    <Tile
      id={record.id}
      digest={record.digest}
      to={similarTo(record.id)}
      label={`Find images similar to this: ${label}`}
      acts={
        <Link class="act" to={open} label="Look closer" title="Look closer" keepScroll>
          <Icon name="open" />
        </Link>
      }
    >
      <span class="class">{record.class ?? "–"}</span>
      <span class="more">{record.modality ?? ""}</span>
    </Tile>
  );
}
