/** A search: the query at the side, its hits as a grid, every option in reach. */

import { useEffect, useRef, useState } from "preact/hooks";
import * as api from "../api";
import { problemFrom, useKeys, useLoad, useSurroundings, useTitle } from "../hooks";
import { back, go } from "../navigation";
import { FacetPanel, FilterChips } from "../parts/facets";
import { Fold } from "../parts/fold";
import { Icon } from "../parts/icons";
import { Empty, Notice, ProblemNotice } from "../parts/notice";
import { Pager } from "../parts/pager";
import { focusedId, focusTile } from "../parts/tile";
import { OpenHit } from "../search/comparison";
import { JudgementBar } from "../search/judgements";
import { gateNot, GATES, Options } from "../search/options";
import { QueryPanel } from "../search/query";
import { Results, Skeleton } from "../search/results";
import { fromRecord, fromUploads, judged, ranksSeries, requestOf, undone, withRecord, type Asked } from "../state/asked";
import { isEmpty, NO_FILTER } from "../state/filter";
import type { ViewerImage } from "../viewer/Viewer";
import { counted, whole } from "../words";

export function SearchPage({ asked, open }: { asked: Asked; open: string | null }) {
  const request = requestOf(asked);
  const found = useLoad("search " + JSON.stringify(request), (signal) => api.search(request, signal), true);
  const result = found.value;
  const show = (next: Asked, replace = false) => go({ page: "search", asked: next, open: null }, { replace, keepScroll: true });
  const judge = (id: string, liked: boolean) => show(judged(asked, id, liked));
  const query = result?.query.predicted[0]?.class;
  useTitle(query ? `Similar to ${query}` : "Similar images");
  useSearchKeys(asked, result, open, judge, show);
  return (
    <div class="sided">
      <aside>
        <QueryPanel
          asked={asked}
          result={result}
          onChange={show}
          onOpen={() => go({ page: "search", asked, open: "query" }, { keepScroll: true })}
        />
        <Fold title="Filters" count={Object.keys(asked.filter.facets).length}>
          <FacetPanel filter={asked.filter} onChange={(filter) => show({ ...asked, filter, offset: 0 })} />
        </Fold>
      </aside>
      <section class="main" aria-labelledby="results-title">
        <Fold title="Options">
          <Options asked={asked} onChange={show} approximate={result?.by.startsWith("ann") ?? false} />
        </Fold>
        <FilterChips filter={asked.filter} onChange={(filter) => show({ ...asked, filter, offset: 0 })} />
        <JudgementBar asked={asked} onChange={show} />
        <ResultHeader asked={asked} result={result} busy={found.busy} />
        {found.problem && (
          <ProblemNotice problem={found.problem} onRetry={found.reload} {...(adviceFor(found.problem, asked) ?? {})} />
        )}
        {!found.problem && !result && <Skeleton n={Math.min(asked.k, 24)} />}
        {!found.problem && result && !result.hits.length && <NoHits asked={asked} result={result} onChange={show} />}
        {!found.problem && result && <Results asked={asked} result={result} busy={found.busy} onJudge={judge} />}
        {result && result.hits.length > 0 && (
          <Pager
            what="hits"
            offset={asked.offset}
            size={asked.k}
            shown={result.hits.length}
            total={result.grouped_by ? null : result.n_candidates}
            to={(offset) => ({ page: "search", asked: { ...asked, offset }, open: null })}
          />
        )}
      </section>
      {open && <OpenImage asked={asked} open={open} result={result} show={show} />}
    </div>
  );
}

function adviceFor(problem: api.Problem, asked: Asked): { advice: string } | null {
  if (problem.status === 404 && asked.uploads.length) return { advice: "Uploaded images are held for a while only. Drop or choose the file again." };
  if (problem.status === 422 && !isEmpty(asked.filter)) return { advice: "Correct the filter or another option, then it is searched again." };
  return null;
}

function ResultHeader({ asked, result, busy }: { asked: Asked; result: api.SearchResult | null; busy: boolean }) {
  const told = result && [
    `${counted(result.n_candidates, "image")} compared`,
    result.where !== null && `${whole(result.n_allowed)} pass the filter`,
    Object.keys(useSurroundings().gallery.encoder.layers).length > 1 && `layer ${result.query.layer}`,
    result.by,
  ];
  return (
    <header class="results">
      <h1 id="results-title">{titleOf(asked)}</h1>
      <p class="quiet" role="status">
        {busy ? "Searching…" : told ? told.filter(Boolean).join(" · ") : ""}
      </p>
      {result && result.hits.length > 0 && <ExportButtons asked={asked} />}
      {result && result.notes.length > 0 && (
        <Notice kind="plain">
          {result.notes.map((note) => (
            <p key={note}>{note}</p>
          ))}
        </Notice>
      )}
    </header>
  );
}

function titleOf(asked: Asked): string {
  const what = ranksSeries(asked) || asked.groupBy === "series" ? "series" : asked.groupBy === "patient" ? "patients" : asked.groupBy === "study" ? "studies" : "images";
  return `${asked.order === "least" ? "Least" : "Most"} similar ${what}`;
}

function NoHits({ asked, result, onChange }: { asked: Asked; result: api.SearchResult; onChange: (asked: Asked) => void }) {
  return (
    <Empty title={asked.offset ? "No hits on this page" : "No hits"}>
      {asked.offset > 0 ? (
        <button type="button" onClick={() => onChange({ ...asked, offset: 0 })}>
          Go to the first page
        </button>
      ) : (
        <>
          <p>
            {result.n_allowed
              ? `${counted(result.n_allowed, "image")} could be hits, and gate and hiding leave none of them.`
              : "No image passes the filter."}
          </p>
          <div class="doings">
            {!isEmpty(asked.filter) && (
              <button type="button" onClick={() => onChange({ ...asked, filter: NO_FILTER })}>
                Clear the filter
              </button>
            )}
            {result.n_allowed > 0 && asked.gate !== "off" && (
              <button type="button" onClick={() => onChange({ ...asked, gate: "off" })}>
                Turn the gate off
              </button>
            )}
            {result.n_allowed > 0 && asked.hide !== "none" && (
              <button type="button" onClick={() => onChange({ ...asked, hide: "none" })}>
                Hide nothing
              </button>
            )}
          </div>
        </>
      )}
    </Empty>
  );
}

/** The hits of this page as a file. */
function ExportButtons({ asked }: { asked: Asked }) {
  const [problem, setProblem] = useState<api.Problem | null>(null);
  const save = async (format: "csv" | "json") => {
    try {
      const address = URL.createObjectURL(await api.exported(requestOf(asked), format));
      const link = document.createElement("a");
      link.href = address;
      link.download = `hits.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(address), 60_000);
      setProblem(null);
    } catch (error) {
      setProblem(problemFrom(error));
    }
  };
  return (
    <div class="exports">
      <span class="quiet">
        <Icon name="download" /> Export
      </span>
      <button type="button" onClick={() => void save("csv")} title="These hits as a table">
        CSV
      </button>
      <button type="button" onClick={() => void save("json")} title="These hits as cbmir search --json tells them">
        JSON
      </button>
      {problem && <ProblemNotice problem={problem} />}
    </div>
  );
}

interface OpenProps {
  asked: Asked;
  open: string;
  result: api.SearchResult | null;
  show: (asked: Asked) => void;
}

function OpenImage({ asked, open, result, show }: OpenProps) {
  const last = useRef(open);
  last.current = open;
  useEffect(() => () => void setTimeout(() => focusTile(last.current)), []);
  const closed = { page: "search", asked, open: null } as const;
  const fromImage = (image: ViewerImage) =>
    image.kind === "record" ? fromRecord(asked, image.id) : fromUploads(asked, [{ upload: image.upload, frame: image.frame }]);
  const step = (event: KeyboardEvent) => {
    const by = event.key === "n" ? 1 : event.key === "p" ? -1 : 0;
    const hits = result?.hits ?? [];
    const next = by && hits[hits.findIndex((hit) => hit.id === open) + by];
    if (next && !(event.target as Element).matches("input, select")) go({ page: "search", asked, open: next.id }, { replace: true });
  };
  return (
    <div onKeyDown={step}>
      <OpenHit
        id={open}
        asked={asked}
        onClose={() => back(closed)}
        onFindSimilar={(image) => show(fromImage(image))}
        onRegion={(region, image) => show({ ...fromImage(image), region })}
      />
    </div>
  );
}

function useSearchKeys(
  asked: Asked,
  result: api.SearchResult | null,
  open: string | null,
  judge: (id: string, liked: boolean) => void,
  show: (asked: Asked) => void,
): void {
  const { encoder } = useSurroundings().gallery;
  const nextGate = () => {
    const usable = GATES.filter(({ value }) => !gateNot(value, encoder.classes.length, encoder.can.soft_gate));
    const next = usable[(usable.findIndex(({ value }) => value === asked.gate) + 1) % usable.length];
    if (next) show({ ...asked, gate: next.value, offset: 0 });
  };
  useKeys((key) => {
    if (open) return false;
    const id = focusedId();
    const [first] = result?.hits ?? [];
    const enter = first && document.activeElement === document.body && (() => focusTile(first.id));
    const acts: Record<string, (() => void) | null | false | undefined> = {
      f: id !== null && (() => show(fromRecord(asked, id))),
      a: id !== null && (() => show(withRecord(asked, id))),
      l: id !== null && (() => judge(id, true)),
      x: id !== null && (() => judge(id, false)),
      u: asked.judgements.length > 0 && (() => show(undone(asked))),
      g: nextGate,
      ArrowDown: enter,
      ArrowRight: enter,
    };
    const act = acts[key];
    if (act) act();
    return Boolean(act);
  });
}
