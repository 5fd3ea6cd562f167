/** How a search is made: gate, hiding, grouping, re-ranking, layer, order. */

import type { Gate, Group, Hide, Rerank } from "../api";
import { useSurroundings } from "../hooks";
import { Segments, Select } from "../parts/controls";
import { queryCount, ranksSeries, type Asked } from "../state/asked";

export const GATES: readonly { value: Gate; name: string; title: string }[] = [
  { value: "off", name: "Off", title: "The whole gallery" },
  { value: "hard", name: "Hard", title: "Only images of the predicted class" },
  { value: "top3", name: "Top 3", title: "Only images of the three likeliest classes" },
  { value: "soft", name: "Soft", title: "The whole gallery, unlikely classes moved back" },
];

const HIDES: readonly { value: Hide; name: string }[] = [
  { value: "patient", name: "the same patient" },
  { value: "study", name: "the same study" },
  { value: "series", name: "the same series" },
  { value: "none", name: "nothing" },
];

const GROUPS: readonly { value: Group | "none"; name: string }[] = [
  { value: "none", name: "nothing" },
  { value: "patient", name: "patient" },
  { value: "study", name: "study" },
  { value: "series", name: "series" },
];

const RERANKS: Record<Rerank, string> = { none: "none", aqe: "query expansion", kreciprocal: "k-reciprocal" };

/** Why a gate cannot be used here, or undefined. */
export function gateNot(gate: Gate, classes: number, soft: boolean): string | undefined {
  if (gate !== "off" && !classes) return "this encoder predicts no class";
  if (gate === "soft" && !soft) return "not fitted for this encoder";
  return undefined;
}

export function Options({ asked, onChange, approximate }: { asked: Asked; onChange: (asked: Asked) => void; approximate: boolean }) {
  const { encoder, limits } = useSurroundings().gallery;
  const set = (part: Partial<Asked>) => onChange({ ...asked, offset: 0, ...part });
  const layers = Object.keys(encoder.layers);
  const reranks = (Object.keys(RERANKS) as Rerank[]).map((value) => ({
    value,
    name: RERANKS[value],
    not: value === "none" || encoder.can.rerank.includes(value) ? undefined : "not fitted",
  }));
  const pages = [12, 24, 48, 96, 192].filter((k) => k <= limits.k || k === asked.k);
  if (!pages.includes(asked.k)) pages.push(asked.k);
  return (
    <div class="options">
      <Segments
        label="Gate"
        value={asked.gate}
        choices={GATES.map((gate) => ({ ...gate, not: gateNot(gate.value, encoder.classes.length, encoder.can.soft_gate) }))}
        onChange={(gate) => set({ gate })}
      />
      <Select label="Hide" value={asked.hide} choices={HIDES} onChange={(hide) => set({ hide })} />
      {ranksSeries(asked) ? (
        <Select
          label="Rank series by"
          value={asked.seriesBy ?? "mean"}
          choices={[
            { value: "mean", name: "mean distance" },
            { value: "votes", name: "votes" },
          ]}
          onChange={(seriesBy) => set({ seriesBy })}
        />
      ) : (
        <Select
          label="Group by"
          value={asked.groupBy ?? "none"}
          choices={GROUPS}
          onChange={(group) => set({ groupBy: group === "none" ? null : group })}
        />
      )}
      {!ranksSeries(asked) && <Select label="Re-rank" value={asked.rerank} choices={reranks} onChange={(rerank) => set({ rerank })} />}
      {layers.length > 1 && (
        <Select
          label="Layer"
          value={asked.layer ?? layers[0] ?? ""}
          choices={layers.map((value) => ({ value, name: value }))}
          onChange={(layer) => set({ layer: layer === layers[0] ? null : layer })}
        />
      )}
      {queryCount(asked) > 1 && (
        <Select
          label="Several images"
          value={asked.combine}
          choices={[
            { value: "centroid", name: "their mean" },
            { value: "max", name: "whichever is nearest" },
          ]}
          onChange={(combine) => set({ combine })}
        />
      )}
      <Select
        label="Order"
        value={asked.order}
        choices={[
          { value: "most", name: "most similar" },
          { value: "least", name: "least similar" },
        ]}
        onChange={(order) => set({ order })}
      />
      <Select
        label="Show"
        value={String(asked.k)}
        choices={pages.map((k) => ({ value: String(k), name: String(k) }))}
        onChange={(k) => set({ k: Number(k) })}
      />
      {(approximate || asked.exact) && (
        <label class="check">
          <input type="checkbox" checked={asked.exact} onChange={(event) => set({ exact: event.currentTarget.checked })} />
          Exact
        </label>
      )}
    </div>
  );
}
