/** The confusion matrix: rows are labels, columns predicted classes; darkness of ink is the share of a row. */

import { useState } from "preact/hooks";
import { percent, whole } from "../words";
import { shares } from "./metrics";

export function Confusion({ classes, confusion }: { classes: string[]; confusion: number[][] }) {
  const [at, setAt] = useState<[number, number] | null>(null);
  const parts = shares(confusion);
  const n = classes.length;
  const errors = confusion
    .flatMap((row, i) => row.map((count, j) => ({ i, j, count, share: parts[i]?.[j] ?? 0 })))
    .filter(({ i, j, count }) => i !== j && count > 0)
    .sort((a, b) => b.count - a.count);
  return (
    <div class="confusion">
      <figure>
        <svg
          viewBox={`-5.8 -5.8 ${n + 6} ${n + 6}`}
          role="img"
          aria-label={`Confusion matrix of ${n} classes; its errors are listed beside it`}
          onPointerLeave={() => setAt(null)}
        >
          {classes.map((name, i) => (
            <g key={name} class={at && (at[0] === i || at[1] === i) ? "on" : undefined}>
              <text x="-0.3" y={i + 0.68} text-anchor="end">
                {short(name)}
              </text>
              <text transform={`translate(${i + 0.68} -0.3) rotate(-90)`}>{short(name)}</text>
            </g>
          ))}
          {confusion.map((row, i) =>
            row.map((count, j) => (
              <g key={`${i} ${j}`} onPointerEnter={() => setAt([i, j])}>
                <rect class="cell" x={j + 0.04} y={i + 0.04} width="0.92" height="0.92" />
                {count > 0 && (
                  <rect
                    class={i === j ? "hit" : "miss"}
                    x={j + 0.04}
                    y={i + 0.04}
                    width="0.92"
                    height="0.92"
                    fill-opacity={0.15 + 0.85 * Math.sqrt(parts[i]?.[j] ?? 0)}
                  />
                )}
              </g>
            )),
          )}
        </svg>
        <figcaption>
          {at
            ? `${classes[at[0]]} predicted as ${classes[at[1]]}: ${whole(confusion[at[0]]?.[at[1]] ?? 0)} (${percent(parts[at[0]]?.[at[1]] ?? 0)})`
            : "Rows: labels. Columns: predicted classes."}
        </figcaption>
      </figure>
      <div>
        <h3>What is taken for what</h3>
        {errors.length ? (
          <table>
            <thead>
              <tr>
                <th scope="col">Label</th>
                <th scope="col">Predicted</th>
                <th scope="col" class="n">
                  Images
                </th>
                <th scope="col" class="n">
                  Of the label
                </th>
              </tr>
            </thead>
            <tbody>
              {errors.slice(0, 15).map(({ i, j, count, share }) => (
                <tr key={`${i} ${j}`}>
                  <th scope="row">{classes[i]}</th>
                  <td>{classes[j]}</td>
                  <td class="n">{whole(count)}</td>
                  <td class="n">{percent(share)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p class="quiet">Nothing: every image is predicted as labelled.</p>
        )}
      </div>
    </div>
  );
}

const short = (name: string) => (name.length > 13 ? name.slice(0, 12) + "…" : name);
