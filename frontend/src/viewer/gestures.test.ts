import { expect, it } from "vitest";
import { pinchOf, toolOf, wheelSteps, zoomOfDrag, zoomOfWheel } from "./gestures";

it("gives each button its tool", () => {
  expect([toolOf(0, false, false), toolOf(0, true, false), toolOf(1, false, false), toolOf(2, false, true)]).toEqual([
    "window",
    "pan",
    "pan",
    "zoom",
  ]);
  expect([toolOf(0, true, true), toolOf(3, false, false)]).toEqual(["region", null]);
});

it("enlarges upwards, and undoes it downwards", () => {
  expect(zoomOfDrag(-150)).toBeCloseTo(Math.E);
  expect(zoomOfDrag(-80) * zoomOfDrag(80)).toBeCloseTo(1);
  expect(zoomOfWheel(-9999)).toBeCloseTo(Math.exp(1 / 3));
});

it("steps once a notch, whatever the wheel calls it", () => {
  expect([120, -53, 400].map((deltaY) => wheelSteps(30, { deltaY, deltaMode: 0 }).steps)).toEqual([1, -1, 1]);
  expect(wheelSteps(0, { deltaY: 3, deltaMode: 1 })).toEqual({ steps: 1, rest: 0 });
});

it("adds up what a touchpad sends, and forgets it when the fingers turn", () => {
  expect(wheelSteps(30, { deltaY: 30, deltaMode: 0 })).toEqual({ steps: 1, rest: 10 });
  expect(wheelSteps(40, { deltaY: -30, deltaMode: 0 })).toEqual({ steps: -0, rest: -30 });
});

it("sees two fingers as a middle and a distance", () => {
  expect(pinchOf({ x: 0, y: 0 }, { x: 6, y: 8 })).toEqual({ middle: { x: 3, y: 4 }, distance: 10 });
});
