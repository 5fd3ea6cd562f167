/** metrics.json of `cbmir evaluate`, as far as it is shown here; any of it may be missing in an older report. */

export interface Measured {
  [metric: string]: unknown;
  pr_curve?: { recall: number[]; precision: number[] };
}

export interface OfClass {
  n_queries: number;
  n_gallery: number;
  retrieval: Record<string, Record<string, Measured>>;
  precision?: number | null;
  recall?: number | null;
  top1?: number | null;
}

export interface Metrics {
  retrieval: Record<string, Record<string, Measured>>;
  classification: ({ classes?: string[]; confusion?: number[][] } & Record<string, unknown>) | null;
  per_class?: Record<string, OfClass>;
  per_modality?: Record<string, OfClass>;
  per_source?: Record<string, OfClass>;
  definitions?: Record<string, string>;
  n_queries: number;
  n_gallery: number;
  encoder: string;
  encoder_name?: string;
  precision?: string;
  relevant?: string;
}

/** Two ends of an interval, or null. */
export function interval(value: unknown): [number, number] | null {
  const [low, high]: unknown[] = Array.isArray(value) && value.length === 2 ? value : [];
  return typeof low === "number" && typeof high === "number" ? [low, high] : null;
}

/** Share of a row of the confusion matrix in each cell; a row without images is all 0. */
export function shares(confusion: number[][]): number[][] {
  return confusion.map((row) => {
    const sum = row.reduce((total, n) => total + n, 0);
    return row.map((n) => (sum ? n / sum : 0));
  });
}

/** Points of a curve in a square of side `side`, as SVG writes them; 0,0 is bottom left. */
export function polyline(recall: number[], precision: number[], side: number): string {
  return recall.map((x, i) => `${(x * side).toFixed(1)},${((1 - (precision[i] ?? 0)) * side).toFixed(1)}`).join(" ");
}

/** Where a curve that falls to the right ends up lowest: the axis starts at the tenth below, so that near curves part. */
export function lowestTenth(curves: readonly number[][]): number {
  const least = Math.min(1, ...curves.flat());
  return Math.max(0, Math.min(0.9, Math.floor(10 * least) / 10));
}
