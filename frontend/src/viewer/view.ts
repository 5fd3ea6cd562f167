// Where an image lies on its stage. Stage: CSS pixels from the top left; image: pixels, (0, 0) its top left corner.

import type { FrameHeader, Region } from "../api";

export interface Size {
  width: number;
  height: number;
}

export interface Point {
  x: number;
  y: number;
}

/** zoom: 1 is as large as the stage allows; x, y: the part of the image, 0 to 1, in the middle of the stage. So the
 *  same look survives another stage and another image. */
export interface View {
  zoom: number;
  x: number;
  y: number;
}

export const FIT: View = { zoom: 1, x: 0.5, y: 0.5 };
const ZOOMS = { least: 0.5, most: 40 };

/** scale: stage pixels per image pixel, along a row (x) and down a column (y); left, top: of the image on the stage. */
export interface Placed {
  scaleX: number;
  scaleY: number;
  left: number;
  top: number;
}

export type Shape = Pick<FrameHeader, "rows" | "columns" | "pixel_aspect">;

export function placed(view: View, { rows, columns, pixel_aspect }: Shape, stage: Size): Placed {
  const scaleX = view.zoom * Math.min(stage.width / columns, stage.height / (rows * pixel_aspect));
  const scaleY = scaleX * pixel_aspect;
  return {
    scaleX,
    scaleY,
    left: stage.width / 2 - view.x * columns * scaleX,
    top: stage.height / 2 - view.y * rows * scaleY,
  };
}

export function toImage(at: Point, { scaleX, scaleY, left, top }: Placed): Point {
  return { x: (at.x - left) / scaleX, y: (at.y - top) / scaleY };
}

/** Enlarged by a factor, what lies under `at` staying there. */
export function zoomed(view: View, factor: number, at: Point, shape: Shape, stage: Size): View {
  const zoom = Math.min(ZOOMS.most, Math.max(ZOOMS.least, view.zoom * factor));
  const before = toImage(at, placed(view, shape, stage));
  const after = toImage(at, placed({ ...view, zoom }, shape, stage));
  return held({
    zoom,
    x: view.x + (before.x - after.x) / shape.columns,
    y: view.y + (before.y - after.y) / shape.rows,
  });
}

/** Moved with the pointer by stage pixels. */
export function panned(view: View, dx: number, dy: number, shape: Shape, stage: Size): View {
  const { scaleX, scaleY } = placed(view, shape, stage);
  return held({ zoom: view.zoom, x: view.x - dx / (shape.columns * scaleX), y: view.y - dy / (shape.rows * scaleY) });
}

/** The middle of the stage never leaves the image, so nobody loses it. */
function held(view: View): View {
  const inside = (part: number) => Math.min(1, Math.max(0, part));
  return { zoom: view.zoom, x: inside(view.x), y: inside(view.y) };
}

/** The longest of 1, 2 or 5 times a power of ten mm that fits `most` stage pixels. */
export function scaleBar(scaleX: number, columnSpacingMm: number, most: number): { mm: number; pixels: number } {
  const pixelsPerMm = scaleX / columnSpacingMm;
  const power = 10 ** Math.floor(Math.log10(most / pixelsPerMm));
  const mm = ([5, 2, 1].find((times) => times * power * pixelsPerMm <= most) ?? 1) * power;
  return { mm, pixels: mm * pixelsPerMm };
}

/** The slice that another series shows when this one goes from one slice to another: the same part of the way. */
export function linkedSlice(from: number, to: number, count: number, otherFrom: number, otherCount: number): number {
  const way = count > 1 ? ((to - from) * (otherCount - 1)) / (count - 1) : 0;
  return within(Math.round(otherFrom + way), otherCount);
}

export function within(index: number, count: number): number {
  return Math.min(count - 1, Math.max(0, index));
}

/** The slices to fetch around one, nearest first. */
export function around(index: number, count: number, reach: number): number[] {
  return Array.from({ length: reach }, (_, i) => [index + i + 1, index - i - 1])
    .flat()
    .filter((slice) => slice >= 0 && slice < count);
}

// --- a rectangle of the image ---

/** Two corners as whole pixels inside the image; null where nothing lies between them. */
export function regionBetween(a: Point, b: Point, { rows, columns }: Shape): Region | null {
  const inside = (value: number, most: number) => Math.min(most, Math.max(0, Math.round(value)));
  const [left, right] = [inside(Math.min(a.x, b.x), columns), inside(Math.max(a.x, b.x), columns)];
  const [top, bottom] = [inside(Math.min(a.y, b.y), rows), inside(Math.max(a.y, b.y), rows)];
  return right > left && bottom > top ? [left, top, right - left, bottom - top] : null;
}

/** What the keyboard starts with: the middle half. */
export function middleRegion({ rows, columns }: Shape): Region {
  return [
    Math.floor(columns / 4),
    Math.floor(rows / 4),
    Math.max(1, Math.floor(columns / 2)),
    Math.max(1, Math.floor(rows / 2)),
  ];
}

/** Moved by pixels, or made larger to the right and below; it stays in the image and at least one pixel large. */
export function nudged([x, y, w, h]: Region, dx: number, dy: number, resize: boolean, { rows, columns }: Shape): Region {
  const between = (value: number, least: number, most: number) => Math.min(most, Math.max(least, value));
  if (resize) return [x, y, between(w + dx, 1, columns - x), between(h + dy, 1, rows - y)];
  return [between(x + dx, 0, columns - w), between(y + dy, 0, rows - h), w, h];
}
