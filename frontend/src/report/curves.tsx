/** Precision over recall, a line for each gate; told apart by dashes as well as by colour. */

import { lowestTenth, polyline, type Measured } from "./metrics";

const SIDE = 260;

export function Curves({ gates }: { gates: Record<string, Measured> }) {
  const drawn = Object.entries(gates).flatMap(([gate, { pr_curve }]) => (pr_curve ? [[gate, pr_curve] as const] : []));
  if (!drawn.length) return null;
  const low = lowestTenth(drawn.map(([, curve]) => curve.precision));
  const scaled = (precision: number[]) => precision.map((p) => (p - low) / (1 - low));
  return (
    <figure class="curves">
      <figcaption>Precision over recall{low > 0 && `; precision from ${low.toFixed(1)}`}</figcaption>
      <svg viewBox={`-34 -8 ${SIDE + 46} ${SIDE + 36}`} role="img" aria-label={`Precision over recall for the gates ${drawn.map(([gate]) => gate).join(", ")}`}>
        {[0, 0.25, 0.5, 0.75, 1].map((at) => (
          <g key={at} class="scale">
            <line x1="0" x2={SIDE} y1={SIDE * at} y2={SIDE * at} />
            <text x="-6" y={SIDE * at + 3} text-anchor="end">
              {(1 - at * (1 - low)).toFixed(3)}
            </text>
            <text x={SIDE * at} y={SIDE + 16} text-anchor="middle">
              {at}
            </text>
          </g>
        ))}
        {drawn.map(([gate, curve], i) => (
          <polyline key={gate} class={`curve c${i % 4}`} points={polyline(curve.recall, scaled(curve.precision), SIDE)} />
        ))}
      </svg>
      <ul class="legend">
        {drawn.map(([gate], i) => (
          <li key={gate}>
            <svg viewBox="0 0 24 4" width="24" height="4" aria-hidden="true">
              <line class={`curve c${i % 4}`} x1="0" x2="24" y1="2" y2="2" />
            </svg>{" "}
            gate {gate}
          </li>
        ))}
      </ul>
    </figure>
  );
}
