// The similarity map as arithmetic: what lies where, what is nearest, which class looks how.

import type { AtlasPoints } from "../api";
import { oklch } from "../viewer/colour";
import type { Size } from "../viewer/view";

/** x, y in units of the map, y upwards; class: index into the names. */
export type Points = AtlasPoints["points"];

/** The middle of the screen in units of the map, and stage pixels per unit. */
export interface View {
  x: number;
  y: number;
  scale: number;
}

/** left, bottom, right, top in units of the map. */
export type Bounds = [number, number, number, number];

const MARGIN = 0.92;
const ZOOMS = { least: 0.5, most: 2000 };

/** All of it, with a little room around. */
export function fitted([x0, y0, x1, y1]: Bounds, stage: Size): View {
  const scale = MARGIN * Math.min(stage.width / (x1 - x0 || 1), stage.height / (y1 - y0 || 1));
  return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale };
}

export function toStage(view: View, x: number, y: number, stage: Size): [number, number] {
  return [stage.width / 2 + (x - view.x) * view.scale, stage.height / 2 - (y - view.y) * view.scale];
}

/** What the stage shows. */
export function seen(view: View, stage: Size): Bounds {
  const [across, up] = [stage.width / 2 / view.scale, stage.height / 2 / view.scale];
  return [view.x - across, view.y - up, view.x + across, view.y + up];
}

/** Enlarged by a factor about a place of the stage. whole: the view of everything, which bounds the zoom. */
export function zoomed(view: View, factor: number, at: [number, number], stage: Size, whole: View): View {
  const scale = Math.min(whole.scale * ZOOMS.most, Math.max(whole.scale * ZOOMS.least, view.scale * factor));
  const [right, down] = [at[0] - stage.width / 2, at[1] - stage.height / 2];
  const moved = 1 / view.scale - 1 / scale;
  return { x: view.x + right * moved, y: view.y - down * moved, scale };
}

export function panned(view: View, dx: number, dy: number): View {
  return { ...view, x: view.x - dx / view.scale, y: view.y + dy / view.scale };
}

/** Moved just so far that a point is inside. */
export function showing(view: View, x: number, y: number, stage: Size): View {
  const [x0, y0, x1, y1] = seen(view, { width: stage.width * MARGIN, height: stage.height * MARGIN });
  const short = (value: number, low: number, high: number) => Math.min(0, value - low) + Math.max(0, value - high);
  return { ...view, x: view.x + short(x, x0, x1), y: view.y + short(y, y0, y1) };
}

/** The position of the point nearest to a place of the stage, at most `reach` stage pixels away; -1 for none. */
export function nearest(points: Points, at: [number, number], reach: number, view: View, stage: Size, hidden: Set<number>): number {
  let [best, least] = [-1, reach];
  for (let i = 0; i < points.id.length; i++) {
    if (hidden.has(points.class[i]!)) continue;
    const [x, y] = toStage(view, points.x[i]!, points.y[i]!, stage);
    const far = Math.hypot(x - at[0], y - at[1]);
    if (far <= least) [best, least] = [i, far];
  }
  return best;
}

/** The next point in a direction (one of dx, dy is 1 or -1, y upwards): of those ahead the nearest, where a step aside
 *  counts double; -1 for none. from: the position of a point. */
export function towards(points: Points, from: number, dx: number, dy: number, hidden: Set<number>): number {
  let [best, least] = [-1, Infinity];
  for (let i = 0; i < points.id.length; i++) {
    if (i === from || hidden.has(points.class[i]!)) continue;
    const [right, up] = [points.x[i]! - points.x[from]!, points.y[i]! - points.y[from]!];
    const ahead = right * dx + up * dy;
    if (ahead <= 0) continue;
    const cost = ahead + 2 * Math.abs(right * dy + up * dx);
    if (cost < least) [best, least] = [i, cost];
  }
  return best;
}

// --- how classes look ---

const HUES = 8;
export const SHAPES = ["circle", "square", "triangle", "diamond"] as const;
export type Shape = (typeof SHAPES)[number];

/** Eight hues by four shapes: colour is never alone, and 32 classes differ; more begin again.
 *  dark: whether the ground is. */
export function lookOf(index: number, dark: boolean): { colour: string; shape: Shape } {
  const lightness = (dark ? 0.75 : 0.55) + (index % 2 ? 0.06 : -0.04);
  const [r, g, b] = oklch(lightness, 0.15, 20 + (360 / HUES) * ((index * 3) % HUES));
  return { colour: `rgb(${r} ${g} ${b})`, shape: SHAPES[Math.floor(index / HUES) % SHAPES.length]! };
}

/** A mark of a shape around (x, y), added to a path. radius: half of what it is wide. */
export function traced(path: Pick<Path2D, "moveTo" | "lineTo" | "arc" | "rect" | "closePath">, shape: Shape, x: number, y: number, radius: number): void {
  if (shape === "square") return path.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
  if (shape === "circle") {
    path.moveTo(x + radius, y);
    return path.arc(x, y, radius, 0, 2 * Math.PI);
  }
  const corners = shape === "diamond" ? [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]] : [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]];
  corners.forEach(([right, down], i) => path[i ? "lineTo" : "moveTo"](x + right! * radius, y + down! * radius));
  path.closePath();
}

/** Half of what a mark is wide, in stage pixels: the more there are the smaller. */
export const radiusOf = (count: number) => Math.min(6, Math.max(2.5, 160 / Math.sqrt(count)));
