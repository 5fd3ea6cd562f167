/** The tables of a report. */

import { fixed, whole } from "../words";
import { interval, type Metrics, type OfClass } from "./metrics";

const SHOWN = ["mAP", "mAP_macro", "P@1", "P@10", "recall@10", "nDCG@10", "R-precision", "MMV@5"];

export function RetrievalTable({ metrics, layer, gate }: { metrics: Metrics; layer: string; gate: string }) {
  const rows = Object.entries(metrics.retrieval).flatMap(([name, gates]) => Object.entries(gates).map(([g, told]) => ({ name, g, told })));
  const shown = SHOWN.filter((metric) => rows.some(({ told }) => typeof told[metric] === "number"));
  return (
    <div class="scrolls" tabIndex={0} role="region" aria-label="Retrieval, by layer and gate">
      <table>
        <thead>
          <tr>
            <th scope="col">Layer</th>
            <th scope="col">Gate</th>
            {shown.map((metric) => (
              <th key={metric} scope="col" class="n" title={metrics.definitions?.[metric]}>
                {metric}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(({ name, g, told }) => (
            <tr key={`${name} ${g}`} class={name === layer && g === gate ? "on" : undefined}>
              <th scope="row">{name}</th>
              <td>{g}</td>
              {shown.map((metric) => (
                <td key={metric} class="n">
                  {fixed(told[metric])}
                  <Interval value={told[`${metric}_ci95`]} />
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Interval({ value }: { value: unknown }) {
  const ends = interval(value);
  if (!ends) return null;
  return (
    <small title="95 % interval">
      {fixed(ends[0])}–{fixed(ends[1])}
    </small>
  );
}

export function PartTable({ what, parts, layer, gate }: { what: string; parts: Record<string, OfClass>; layer: string; gate: string }) {
  const rows = Object.entries(parts).map(([name, part]) => ({ name, part, told: part.retrieval[layer]?.[gate] ?? {} }));
  const has = (value: (part: OfClass) => unknown) => rows.some(({ part }) => typeof value(part) === "number");
  const columns: [string, (row: (typeof rows)[number]) => unknown][] = [
    ["mAP", ({ told }) => told["mAP"]],
    ["P@1", ({ told }) => told["P@1"]],
    ["P@10", ({ told }) => told["P@10"]],
  ];
  if (has((part) => part.precision)) columns.push(["Precision", ({ part }) => part.precision]);
  if (has((part) => part.recall)) columns.push(["Recall", ({ part }) => part.recall]);
  if (has((part) => part.top1)) columns.push(["Top 1", ({ part }) => part.top1]);
  return (
    <div class="scrolls" tabIndex={0} role="region" aria-label={`By ${what}`}>
      <table>
        <thead>
          <tr>
            <th scope="col">{what}</th>
            <th scope="col" class="n">
              Queries
            </th>
            <th scope="col" class="n">
              Gallery
            </th>
            {columns.map(([name]) => (
              <th key={name} scope="col" class="n">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row.name}>
              <th scope="row">{row.name}</th>
              <td class="n">{whole(row.part.n_queries)}</td>
              <td class="n">{whole(row.part.n_gallery)}</td>
              {columns.map(([name, value]) => (
                <td key={name} class="n heat">
                  <Shade value={value(row)} />
                  {fixed(value(row))}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Shade({ value }: { value: unknown }) {
  if (typeof value !== "number") return null;
  return (
    <svg viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
      <rect width={100 * Math.max(0, Math.min(1, value))} height="1" />
    </svg>
  );
}

const CLASSIFICATION = ["top1", "macro_precision", "macro_recall", "F1", "accuracy_eq8"];

export function ClassificationList({ metrics }: { metrics: Metrics }) {
  const told = metrics.classification;
  if (!told) return null;
  return (
    <dl class="figures">
      {CLASSIFICATION.filter((name) => typeof told[name] === "number").map((name) => (
        <div key={name} title={metrics.definitions?.[name]}>
          <dt>{name.replaceAll("_", " ")}</dt>
          <dd>{fixed(told[name])}</dd>
        </div>
      ))}
    </dl>
  );
}
