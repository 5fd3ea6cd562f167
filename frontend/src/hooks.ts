/** What components share: loading, keys, titles, and what they are told of the gallery. */

import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";
import { Problem, type Gallery, type Session } from "./api";

export interface Loaded<T> {
  value: T | null;
  problem: Problem | null;
  busy: boolean;
  reload: () => void;
}

const KEPT = 60;
const answers = new Map<string, unknown>();

/** Forgets every answer that was kept, because the gallery has changed. */
export function forgetAnswers(): void {
  answers.clear();
}

/**
 * The answer to `ask`, asked again whenever `key` changes; with key null nothing is asked. Answers are kept, so that going
 * back shows them at once; they are asked for again all the same. lingers: while `busy`, `value` is of the earlier key.
 */
export function useLoad<T>(key: string | null, ask: (signal: AbortSignal) => Promise<T>, lingers = false): Loaded<T> {
  const [state, setState] = useState<{ key: string | null; value: T | null; problem: Problem | null; busy: boolean }>({
    key: null,
    value: null,
    problem: null,
    busy: true,
  });
  const [times, setTimes] = useState(0);
  useEffect(() => {
    if (key === null) return setState({ key, value: null, problem: null, busy: false });
    const kept = answers.get(key) as T | undefined;
    setState((old) => ({ key, value: kept ?? (lingers || old.key === key ? old.value : null), problem: null, busy: true }));
    const abort = new AbortController();
    ask(abort.signal).then(
      (value) => {
        if (abort.signal.aborted) return;
        answers.delete(key);
        answers.set(key, value);
        if (answers.size > KEPT) answers.delete(answers.keys().next().value ?? "");
        setState({ key, value, problem: null, busy: false });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setState({ key, value: null, problem: problemFrom(error), busy: false });
      },
    );
    return () => abort.abort();
  }, [key, times]);
  const stale = state.key !== key;
  const kept = stale && key !== null ? (answers.get(key) as T | undefined) : undefined;
  return {
    value: key === null ? null : (kept ?? (stale && !lingers ? null : state.value)),
    problem: stale ? null : state.problem,
    busy: stale || state.busy,
    reload: () => setTimes((n) => n + 1),
  };
}

export function problemFrom(error: unknown): Problem {
  if (error instanceof Problem) return error;
  return new Problem(0, "The page failed", error instanceof Error ? error.message : String(error));
}

export interface Surroundings {
  gallery: Gallery;
  session: Session;
}
export const SurroundingsContext = createContext<Surroundings | null>(null);

export function useSurroundings(): Surroundings {
  const here = useContext(SurroundingsContext);
  if (!here) throw new Error("a view stands outside the gallery");
  return here;
}

/** The name of the view, as tab and history show it. */
export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title ? `${title} · cbmir` : "cbmir";
  }, [title]);
}

const SHORTCUTS = "cbmir.shortcuts";

/** Whether single letters act: they can be turned off, for speech input (WCAG 2.1.4). */
export function lettersAct(): boolean {
  try {
    return localStorage.getItem(SHORTCUTS) !== "off";
  } catch {
    return true;
  }
}
export function setLettersAct(on: boolean): void {
  try {
    localStorage.setItem(SHORTCUTS, on ? "on" : "off");
  } catch {
    // Then letters act, as they do at first.
  }
}

/** Calls `act` for keys pressed anywhere but in a field or a dialog; `act` returns true where the key was its own. */
export function useKeys(act: (key: string, event: KeyboardEvent) => boolean): void {
  const latest = useRef(act);
  latest.current = act;
  useEffect(() => {
    const listener = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      const target = event.target as Element;
      if (target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog")) return;
      if (event.key.length === 1 && !lettersAct()) return;
      if (latest.current(event.key, event)) event.preventDefault();
    };
    document.addEventListener("keydown", listener);
    return () => document.removeEventListener("keydown", listener);
  }, []);
}
