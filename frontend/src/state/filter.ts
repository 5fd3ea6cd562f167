/** A filter of the page: ticked values of facets, and a text in the language of filters; together one `where` of the API. */

export interface Filter {
  /** Column to ticked values; "" is 'not stated'. No column without values. */
  facets: Record<string, string[]>;
  text: string;
}

export const NO_FILTER: Filter = { facets: {}, text: "" };

const BARE = /^[^\s"'()<>=!~,]+$/;
const WORDS = new Set(["and", "or", "not", "in"]);

/** A value as the filter language reads it: in quotes where it holds spaces, marks or one of its words. */
export function quoted(value: string): string {
  return BARE.test(value) && !WORDS.has(value.toLowerCase()) ? value : `"${value.replaceAll('"', '""')}"`;
}

function test(column: string, values: string[]): string {
  const told = values.map(quoted);
  return told.length === 1 ? `${quoted(column)}=${told[0]}` : `${quoted(column)} in (${told.join(", ")})`;
}

/** The filter as one text, null where everything passes. `without`: a column whose ticks do not count. */
export function whereOf(filter: Filter, without?: string): string | null {
  const columns = Object.keys(filter.facets).filter((column) => column !== without);
  const tests = columns.map((column) => test(column, filter.facets[column] ?? []));
  const text = filter.text.trim();
  if (text) tests.push(tests.length ? `(${text})` : text);
  return tests.join(" and ") || null;
}

export function isTicked(filter: Filter, column: string, value: string): boolean {
  return filter.facets[column]?.includes(value) ?? false;
}

/** The filter with a value of a column ticked, or no longer. */
export function toggled(filter: Filter, column: string, value: string): Filter {
  const before = filter.facets[column] ?? [];
  const after = before.includes(value) ? before.filter((other) => other !== value) : [...before, value];
  const facets = { ...filter.facets, [column]: after };
  if (!after.length) delete facets[column];
  return { ...filter, facets };
}

export function isEmpty(filter: Filter): boolean {
  return !filter.text.trim() && !Object.keys(filter.facets).length;
}
