/** Going from view to view: the address is the state, the browser's history is the undo. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { readRoute, writeRoute, type Route } from "./state/route";

const listeners = new Set<() => void>();
const tell = () => listeners.forEach((listener) => listener());
window.addEventListener("popstate", tell);

export function hrefOf(route: Route): string {
  return location.pathname + writeRoute(route);
}

/** Shows a route. `replace`: in place of this one in the history, for what nobody would go back to one by one. */
export function go(route: Route, { replace = false, keepScroll = false } = {}): void {
  const href = hrefOf(route);
  if (href === location.pathname + location.search) return;
  const depth = (history.state as { depth?: number } | null)?.depth ?? 0;
  if (replace) history.replaceState({ depth }, "", href);
  else history.pushState({ depth: depth + 1 }, "", href);
  tell();
  if (!keepScroll && !replace) scrollTo(0, 0);
}

/** Back to where this view was opened from; to `otherwise` where the page was opened at this address. */
export function back(otherwise: Route): void {
  const depth = (history.state as { depth?: number } | null)?.depth ?? 0;
  if (depth > 0) history.back();
  else go(otherwise, { replace: true });
}

export function useRoute(): Route {
  const [search, setSearch] = useState(location.search);
  useEffect(() => {
    const listener = () => setSearch(location.search);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return readRoute(search);
}

interface LinkProps {
  to: Route;
  children: ComponentChildren;
  class?: string;
  label?: string;
  title?: string;
  current?: boolean;
  keepScroll?: boolean;
  [data: `data-${string}`]: string | number | undefined;
}

/** A real link, which opens in a new tab as links do. */
export function Link({ to, children, label, current, keepScroll = false, ...rest }: LinkProps) {
  return (
    <a
      {...rest}
      href={hrefOf(to)}
      aria-label={label}
      aria-current={current ? "page" : undefined}
      onClick={(event) => {
        if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        go(to, { keepScroll });
      }}
    >
      {children}
    </a>
  );
}
