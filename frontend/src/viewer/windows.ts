// Which windows there are, and how a drag changes one.

import type { Window, WindowFunction } from "./grey";

export interface NamedWindow {
  name: string;
  window: Window;
}

/** What the digits 1 to 6 show of a CT. */
export const CT_PRESETS: readonly NamedWindow[] = [
  linear("Soft tissue", 40, 400),
  linear("Lung", -600, 1500),
  linear("Bone", 400, 1800),
  linear("Brain", 40, 80),
  linear("Mediastinum", 50, 350),
  linear("Liver", 60, 160),
];

function linear(name: string, center: number, width: number): NamedWindow {
  return { name, window: { center, width, function: "LINEAR" } };
}

/** Presets mean something only where values are Hounsfield units. */
export function presetsOf(unit: string | null): readonly NamedWindow[] {
  return unit === "HU" ? CT_PRESETS : [];
}

/** The narrowest window of a function: LINEAR is at least 1 wide, the others wider than nothing. */
function narrowest(kind: WindowFunction, range: number): number {
  return kind === "LINEAR" ? 1 : range * 1e-6 || 1e-6;
}

/** The window after a drag of (dx, dy) pixels: to the right is wider, down is a higher level, that is darker.
 *  range: of the values the frame has; a narrow window still opens at a speed that fits them. */
export function dragged(start: Window, dx: number, dy: number, range: number): Window {
  const step = Math.max(start.width, range / 100) / 300;
  return {
    center: start.center + dy * step,
    width: Math.max(narrowest(start.function, range), start.width + dx * step),
    function: start.function,
  };
}

/** A number as the corner of an image shows it: whole where that is exact enough. */
export function short(value: number): string {
  const size = Math.abs(value);
  return size >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(size < 0.001 ? 1 : 3);
}
