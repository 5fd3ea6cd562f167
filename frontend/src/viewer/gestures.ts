// What pointers and the wheel mean on a stage. Everything here is in stage pixels; who holds it decides what moves.

import type { Point } from "./view";

export type Tool = "window" | "pan" | "zoom" | "region";

/** What a pressed button does. Source of the conventions: DICOM viewers, as everybody's hands know them. */
export function toolOf(button: number, shift: boolean, drawing: boolean): Tool | null {
  if (button === 1) return "pan";
  if (button === 2) return "zoom";
  if (button !== 0) return null;
  return drawing ? "region" : shift ? "pan" : "window";
}

/** A vertical drag of so many pixels enlarges so often: upwards more, 150 pixels e-fold. */
export const zoomOfDrag = (dy: number) => Math.exp(-dy / 150);

export const zoomOfWheel = (deltaY: number) => Math.exp(-Math.max(-50, Math.min(50, deltaY)) / 150);

const NOTCH = 50;

/** Steps of a wheel: one a notch, or one for every 50 pixels of a touchpad. rest: what the last events left over. */
export function wheelSteps(rest: number, { deltaY, deltaMode }: Pick<WheelEvent, "deltaY" | "deltaMode">): { steps: number; rest: number } {
  if (deltaMode !== 0 || Math.abs(deltaY) >= NOTCH) return { steps: Math.sign(deltaY), rest: 0 };
  const sum = Math.sign(rest) === -Math.sign(deltaY) ? deltaY : rest + deltaY;
  const steps = Math.trunc(sum / NOTCH);
  return { steps, rest: sum - steps * NOTCH };
}

export interface Pinch {
  middle: Point;
  distance: number;
}

export function pinchOf(a: Point, b: Point): Pinch {
  return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, distance: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
}
