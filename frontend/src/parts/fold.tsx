/** Open beside the pictures where there is room, folded away where there is none. */

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";

const WIDE = "(min-width: 60rem)";

export function useWide(): boolean {
  const [wide, setWide] = useState(matchMedia(WIDE).matches);
  useEffect(() => {
    const query = matchMedia(WIDE);
    const listener = () => setWide(query.matches);
    query.addEventListener("change", listener);
    return () => query.removeEventListener("change", listener);
  }, []);
  return wide;
}

export function Fold({ title, count = 0, children }: { title: string; count?: number; children: ComponentChildren }) {
  if (useWide()) return <>{children}</>;
  return (
    <details class="fold">
      <summary>
        {title} {count > 0 && <span class="count">{count}</span>}
      </summary>
      {children}
    </details>
  );
}
