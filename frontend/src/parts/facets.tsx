/** What the gallery holds, by column: counts that are also the filter. */

import { useEffect, useState } from "preact/hooks";
import * as api from "../api";
import { useLoad } from "../hooks";
import { isEmpty, isTicked, NO_FILTER, toggled, whereOf, type Filter } from "../state/filter";
import { columnName, valueName, whole } from "../words";
import { Icon } from "./icons";
import { ProblemNotice } from "./notice";

const FIRST = ["class", "modality", "source", "body_part_examined", "age_band", "patient_sex", "manufacturer"];
const OPEN = new Set(["class", "modality"]);
const SHOWN = 8;

type Facets = Record<string, api.Counts>;

/** Counts under the filter; beside the ticked values of a column those without its own ticks, so that more can be ticked. */
async function load(filter: Filter, signal: AbortSignal): Promise<Facets> {
  const ticked = Object.keys(filter.facets);
  const [all, ...own] = await Promise.all([
    api.facets(whereOf(filter), signal),
    ...ticked.map((column) => api.facets(whereOf(filter, column), signal)),
  ]);
  const facets = { ...all.facets };
  ticked.forEach((column, i) => (facets[column] = own[i]?.facets[column] ?? {}));
  return facets;
}

export function FacetPanel({ filter, onChange }: { filter: Filter; onChange: (filter: Filter) => void }) {
  const { value, problem, busy, reload } = useLoad("facets " + JSON.stringify(filter), (signal) => load(filter, signal), true);
  const columns = value ? inOrder(value, filter) : [];
  return (
    <section class="facets" aria-label="Filters" aria-busy={busy}>
      <header>
        <h2>Filters</h2>
        {!isEmpty(filter) && (
          <button type="button" class="plain" onClick={() => onChange(NO_FILTER)}>
            Clear all
          </button>
        )}
      </header>
      <WrittenFilter text={filter.text} onChange={(text) => onChange({ ...filter, text })} />
      {problem && <ProblemNotice problem={problem} onRetry={reload} advice="Correct the written filter, or clear all filters." />}
      {columns.map(([column, counts]) => (
        <Facet key={column} column={column} counts={counts} filter={filter} onChange={onChange} />
      ))}
    </section>
  );
}

/** Columns that tell images apart, the usual ones first. */
function inOrder(facets: Facets, filter: Filter): [string, api.Counts][] {
  const place = (column: string) => (FIRST.includes(column) ? FIRST.indexOf(column) : FIRST.length);
  return Object.entries(facets)
    .filter(([column, counts]) => Object.keys(counts).length > 1 || filter.facets[column])
    .sort(([a], [b]) => place(a) - place(b));
}

interface FacetProps {
  column: string;
  counts: api.Counts;
  filter: Filter;
  onChange: (filter: Filter) => void;
}

function Facet({ column, counts, filter, onChange }: FacetProps) {
  const [all, setAll] = useState(false);
  const ticked = filter.facets[column] ?? [];
  const values = Object.entries({ ...Object.fromEntries(ticked.map((value) => [value, 0])), ...counts });
  values.sort(([a, n], [b, m]) => m - n || a.localeCompare(b));
  const shown = all ? values : values.filter(([value], i) => i < SHOWN || isTicked(filter, column, value));
  return (
    <details open={OPEN.has(column) || ticked.length > 0}>
      <summary>
        {columnName(column)} {ticked.length > 0 && <span class="count">{ticked.length} ticked</span>}
      </summary>
      <ul>
        {shown.map(([value, n]) => (
          <li key={value}>
            <label class="facet">
              <input
                type="checkbox"
                checked={isTicked(filter, column, value)}
                onChange={() => onChange(toggled(filter, column, value))}
              />
              <span class="plainline">
                <span class="name">{valueName(value)}</span>
                <span class="told">{whole(n)}</span>
              </span>
            </label>
          </li>
        ))}
      </ul>
      {values.length > SHOWN && (
        <button type="button" class="plain more" onClick={() => setAll(!all)}>
          {all ? "Fewer" : `All ${whole(values.length)}`}
        </button>
      )}
    </details>
  );
}

function WrittenFilter({ text, onChange }: { text: string; onChange: (text: string) => void }) {
  const [draft, setDraft] = useState(text);
  useEffect(() => setDraft(text), [text]);
  return (
    <form
      class="written"
      onSubmit={(event) => {
        event.preventDefault();
        onChange(draft.trim());
      }}
    >
      <label>
        <span class="visually-hidden">Written filter</span>
        <input
          type="text"
          id="written-filter"
          value={draft}
          placeholder="age_band<60 and not source=x"
          spellcheck={false}
          autocomplete="off"
          onInput={(event) => setDraft(event.currentTarget.value)}
        />
      </label>
      {draft.trim() !== text && <button type="submit">Apply</button>}
    </form>
  );
}

/** The ticked values in one line, each to be taken away. */
export function FilterChips({ filter, onChange }: { filter: Filter; onChange: (filter: Filter) => void }) {
  if (isEmpty(filter)) return null;
  return (
    <ul class="chips" aria-label="Filters in use">
      {Object.entries(filter.facets).flatMap(([column, values]) =>
        values.map((value) => (
          <li key={column + "=" + value}>
            <button type="button" onClick={() => onChange(toggled(filter, column, value))} title="Remove this filter">
              <span class="quiet">{columnName(column)}</span> {valueName(value)} <Icon name="close" />
            </button>
          </li>
        )),
      )}
      {filter.text && (
        <li>
          <button type="button" onClick={() => onChange({ ...filter, text: "" })} title="Remove this filter">
            <code>{filter.text}</code> <Icon name="close" />
          </button>
        </li>
      )}
    </ul>
  );
}
