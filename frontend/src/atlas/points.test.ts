import { describe, expect, it } from "vitest";
import { contrast, type Rgb } from "../viewer/colour";
import { fitted, lookOf, nearest, panned, type Points, seen, showing, toStage, towards, zoomed } from "./points";

const STAGE = { width: 200, height: 100 };
const WHOLE = fitted([-1, -1, 1, 1], STAGE);
const POINTS: Points = { id: ["a", "b", "c", "d"], x: [0, 1, 0.2, -1], y: [0, 0.1, 1, 0], class: [0, 0, 1, 1] };
const NONE = new Set<number>();

describe("the view", () => {
  it("holds everything, the middle in the middle, y upwards", () => {
    expect(toStage(WHOLE, 0, 0, STAGE)).toEqual([100, 50]);
    expect(toStage(WHOLE, 1, 1, STAGE)).toEqual([146, 4]);
  });
  it("knows what it shows", () => {
    expect(seen({ x: 1, y: 2, scale: 10 }, STAGE)).toEqual([-9, -3, 11, 7]);
  });
  it("keeps what is under the pointer there when zooming, and moves with it", () => {
    const view = zoomed(WHOLE, 2, toStage(WHOLE, 0.5, 0.5, STAGE), STAGE, WHOLE);
    expect(toStage(view, 0.5, 0.5, STAGE)).toEqual(toStage(WHOLE, 0.5, 0.5, STAGE));
    expect(toStage(panned(WHOLE, 7, -3), 0, 0, STAGE)).toEqual([107, 47]);
  });
  it("moves just so far that a point is inside", () => {
    const view = { x: 0, y: 0, scale: 100 };
    expect(showing(view, 0.5, 0.2, STAGE)).toEqual(view);
    const [x] = toStage(showing(view, 3, 0, STAGE), 3, 0, STAGE);
    expect(x).toBeCloseTo(192);
  });
});

describe("points", () => {
  it("are found near the pointer, hidden classes apart", () => {
    expect(nearest(POINTS, [102, 51], 12, WHOLE, STAGE, NONE)).toBe(0);
    expect(nearest(POINTS, [102, 51], 12, WHOLE, STAGE, new Set([0]))).toBe(-1);
    expect(nearest(POINTS, [125, 30], 5, WHOLE, STAGE, NONE)).toBe(-1);
  });
  it("are reached in a direction, the one straight ahead first", () => {
    expect(towards(POINTS, 0, 1, 0, NONE)).toBe(1);
    expect(towards(POINTS, 0, 0, 1, NONE)).toBe(2); // costs 1 + 2 * 0.2; point 1 costs 0.1 + 2 * 1
    expect(towards(POINTS, 0, 0, -1, NONE)).toBe(-1);
    expect(towards(POINTS, 0, 0, 1, new Set([1]))).toBe(1);
  });
});

describe("classes", () => {
  it("differ in colour or shape, all 32 of them", () => {
    const looks = Array.from({ length: 32 }, (_, i) => JSON.stringify(lookOf(i, true)));
    expect(new Set(looks).size).toBe(32);
  });
  it("stand out from their ground by 3 to 1", () => {
    const rgb = (colour: string) => colour.match(/\d+/g)!.map(Number) as Rgb;
    for (let i = 0; i < 8; i++) {
      expect(contrast(rgb(lookOf(i, true).colour), [30, 32, 36])).toBeGreaterThan(3);
      expect(contrast(rgb(lookOf(i, false).colour), [250, 250, 250])).toBeGreaterThan(3);
    }
  });
});
