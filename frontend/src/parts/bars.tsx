/** Counts and shares as lines of text over a quiet bar. */

import type { ComponentChildren } from "preact";

/** share: length of the bar, 0 to 1 of its line. */
export function BarLine({ name, told, share, strong }: { name: ComponentChildren; told: string; share: number; strong?: boolean }) {
  return (
    <span class={strong ? "barline strong" : "barline"}>
      <svg class="track" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">
        <rect width={Math.max(0, Math.min(100, 100 * share))} height="1" />
      </svg>
      <span class="name">{name}</span>
      <span class="told">{told}</span>
    </span>
  );
}
