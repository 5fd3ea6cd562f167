/** Numbers and names as people read them. */

const WHOLE = new Intl.NumberFormat("en");

export const whole = (n: number): string => WHOLE.format(n);

export const counted = (n: number, one: string, many = one + "s"): string => `${whole(n)} ${n === 1 ? one : many}`;

/** A probability in percent; what is not certain never reads as 0 % or 100 %. */
export function percent(p: number): string {
  if (p > 0 && p < 0.01) return "<1 %";
  if (p < 1 && p > 0.99) return ">99 %";
  return `${Math.round(100 * p)} %`;
}

/** Four figures that count, as distances are compared. */
export function distance(d: number): string {
  return d >= 1000 ? d.toFixed(0) : d.toPrecision(4);
}

export const fixed = (value: unknown, digits = 3): string =>
  typeof value === "number" && Number.isFinite(value) ? value.toFixed(digits) : "–";

const NAMES: Record<string, string> = {
  age_band: "Age",
  body_part_examined: "Body part",
  patient_sex: "Sex",
  sop_class: "Kind of image",
  photometric_interpretation: "Photometric interpretation",
  burned_in: "Burned-in text",
};

/** A column as a heading: `view_position` as "View position". */
export function columnName(column: string): string {
  const told = NAMES[column] ?? column.replaceAll("_", " ");
  return told.charAt(0).toUpperCase() + told.slice(1);
}

export const valueName = (value: string): string => value || "not stated";

const OUTCOMES: Record<string, string> = {
  decoded: "read",
  partial: "read in part",
  not_an_image: "not an image",
  unsupported: "not supported",
  corrupt: "damaged",
  refused: "refused",
  crashed: "crashed the reader",
  timed_out: "took too long",
};
export const outcomeName = (outcome: string): string => OUTCOMES[outcome] ?? outcome.replaceAll("_", " ");

export const fileSize = (bytes: number): string => `${Math.floor(bytes / 2 ** 20)} MB`;

export function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
