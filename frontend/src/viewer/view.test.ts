import { describe, expect, it } from "vitest";
import {
  around,
  FIT,
  linkedSlice,
  middleRegion,
  nudged,
  panned,
  placed,
  regionBetween,
  scaleBar,
  toImage,
  zoomed,
} from "./view";

const SHAPE = { rows: 100, columns: 200, pixel_aspect: 1 };
const STAGE = { width: 400, height: 400 };

describe("where an image lies", () => {
  it("is in the middle, as large as the stage allows", () => {
    expect(placed(FIT, SHAPE, STAGE)).toEqual({ scaleX: 2, scaleY: 2, left: 0, top: 100 });
  });
  it("respects pixels that are higher than wide", () => {
    expect(placed(FIT, { ...SHAPE, pixel_aspect: 4 }, STAGE)).toEqual({ scaleX: 1, scaleY: 4, left: 100, top: 0 });
  });
  it("keeps what is under the pointer there when zooming", () => {
    const at = { x: 120, y: 180 };
    const before = toImage(at, placed(FIT, SHAPE, STAGE));
    const after = toImage(at, placed(zoomed(FIT, 3, at, SHAPE, STAGE), SHAPE, STAGE));
    expect(after.x).toBeCloseTo(before.x);
    expect(after.y).toBeCloseTo(before.y);
  });
  it("moves with the pointer, and never out of sight", () => {
    const moved = placed(panned(FIT, 30, -20, SHAPE, STAGE), SHAPE, STAGE);
    expect([moved.left, moved.top]).toEqual([30, 80]);
    expect(panned(FIT, 1e6, 0, SHAPE, STAGE).x).toBe(0);
  });
  it("cannot be zoomed without end", () => {
    expect(zoomed(FIT, 1e9, { x: 0, y: 0 }, SHAPE, STAGE).zoom).toBe(40);
    expect(zoomed(FIT, 1e-9, { x: 0, y: 0 }, SHAPE, STAGE).zoom).toBe(0.5);
  });
});

it("draws a scale bar of a round length that fits", () => {
  expect(scaleBar(2, 0.5, 250)).toEqual({ mm: 50, pixels: 200 });
  expect(scaleBar(2, 0.5, 199)).toEqual({ mm: 20, pixels: 80 });
  expect(scaleBar(10, 0.01, 200).mm).toBeCloseTo(0.2);
});

describe("linked series", () => {
  it("go the same part of the way", () => {
    expect(linkedSlice(0, 10, 21, 0, 41)).toBe(20);
    expect(linkedSlice(10, 12, 21, 5, 11)).toBe(6);
  });
  it("stop at their ends, and stay where one is a single image", () => {
    expect(linkedSlice(0, 20, 21, 30, 41)).toBe(40);
    expect(linkedSlice(0, 0, 1, 3, 9)).toBe(3);
  });
});

it("fetches around a slice, nearest first, inside the series", () => {
  expect(around(1, 5, 3)).toEqual([2, 0, 3, 4]);
});

describe("a region", () => {
  it("lies between two corners in any order, in whole pixels, inside the image", () => {
    expect(regionBetween({ x: 50.4, y: 60 }, { x: 10.2, y: -5 }, SHAPE)).toEqual([10, 0, 40, 60]);
    expect(regionBetween({ x: 150, y: 90 }, { x: 999, y: 999 }, SHAPE)).toEqual([150, 90, 50, 10]);
  });
  it("is none where the corners meet or lie outside", () => {
    expect(regionBetween({ x: 5, y: 5 }, { x: 5.3, y: 50 }, SHAPE)).toBeNull();
    expect(regionBetween({ x: -9, y: 5 }, { x: -2, y: 50 }, SHAPE)).toBeNull();
  });
  it("starts as the middle half, is moved and resized within the image", () => {
    expect(middleRegion(SHAPE)).toEqual([50, 25, 100, 50]);
    expect(nudged([50, 25, 100, 50], -60, 999, false, SHAPE)).toEqual([0, 50, 100, 50]);
    expect(nudged([50, 25, 100, 50], 999, -999, true, SHAPE)).toEqual([50, 25, 150, 1]);
  });
});
