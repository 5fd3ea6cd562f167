/** The hits, best first. */

import type { Hit, SearchResult } from "../api";
import { Icon } from "../parts/icons";
import { moveInGrid, Tile } from "../parts/tile";
import { fromRecord, withRecord, type Asked } from "../state/asked";
import { Link } from "../navigation";
import { counted, distance, percent } from "../words";

interface ResultsProps {
  asked: Asked;
  result: SearchResult;
  busy: boolean;
  onJudge: (id: string, liked: boolean) => void;
}

export function Results({ asked, result, busy, onJudge }: ResultsProps) {
  const predicted = result.query.predicted[0]?.class ?? null;
  return (
    <ol class={busy ? "grid busy" : "grid"} aria-label="Hits, best first" aria-busy={busy} onKeyDown={moveInGrid}>
      {result.hits.map((hit) => (
        <HitTile
          key={hit.id}
          hit={hit}
          asked={asked}
          grouped={result.grouped_by}
          differs={predicted !== null && hit.class !== null && hit.class !== predicted}
          predicted={predicted}
          onJudge={onJudge}
        />
      ))}
    </ol>
  );
}

interface HitProps {
  hit: Hit;
  asked: Asked;
  grouped: string | null;
  differs: boolean;
  predicted: string | null;
  onJudge: (id: string, liked: boolean) => void;
}

function HitTile({ hit, asked, grouped, differs, predicted, onJudge }: HitProps) {
  const judged = asked.judgements.find((one) => one.id === hit.id)?.liked;
  const label = [
    `Rank ${hit.rank}: ${hit.class ?? "no class"}`,
    hit.modality,
    `distance ${distance(hit.distance)}`,
    hit.score !== null && `score ${percent(hit.score)}`,
    differs && `class differs from the predicted ${predicted}`,
  ];
  const several = hit.images !== null && grouped ? counted(hit.images, "image") : null;
  return (
    <Tile
      id={hit.id}
      digest={hit.digest}
      rank={hit.rank}
      differs={differs}
      judged={judged}
      keepScroll
      to={{ page: "search", asked, open: hit.id }}
      label={label.filter(Boolean).join(", ") + ". Open beside the query"}
      acts={
        <>
          <Link class="act" to={{ page: "search", asked: fromRecord(asked, hit.id), open: null }} label="Find similar" title="Find similar (f)">
            <Icon name="similar" />
          </Link>
          <Link class="act" to={{ page: "search", asked: withRecord(asked, hit.id), open: null }} label="Add to the query" title="Add to the query (a)">
            <Icon name="add" />
          </Link>
          <button
            type="button"
            class="act"
            aria-label="More like this"
            title="More like this (l)"
            aria-pressed={judged === true}
            onClick={() => onJudge(hit.id, true)}
          >
            <Icon name="like" />
          </button>
          <button
            type="button"
            class="act"
            aria-label="Less like this"
            title="Less like this (x)"
            aria-pressed={judged === false}
            onClick={() => onJudge(hit.id, false)}
          >
            <Icon name="unlike" />
          </button>
        </>
      }
    >
      <span class="rank">{hit.rank}</span>
      <span class="class" title={differs ? `Class differs from the predicted ${predicted}` : undefined}>
        {differs && <span class="sign">≠</span>} {hit.class ?? "–"}
      </span>
      {hit.score !== null && (
        <span class="score" title="Probability that this hit is of the query's class">
          {percent(hit.score)}
        </span>
      )}
      <span class="more">{[hit.modality, several, hit.votes !== null && counted(hit.votes, "vote")].filter(Boolean).join(" · ")}</span>
      <span class="distance" title="Distance: smaller is more alike">
        {distance(hit.distance)}
      </span>
    </Tile>
  );
}

/** Places of hits that are on their way. */
export function Skeleton({ n }: { n: number }) {
  return (
    <ol class="grid" aria-hidden="true">
      {Array.from({ length: n }, (_, i) => (
        <li key={i} class="tile waits">
          <span class="picture" />
          <div class="caption" />
        </li>
      ))}
    </ol>
  );
}
