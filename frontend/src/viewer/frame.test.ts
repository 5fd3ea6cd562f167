import { describe, expect, it } from "vitest";
import type { FrameHeader } from "../api";
import { frameOf, thinned } from "./frame";
import { dragged, presetsOf, short } from "./windows";

const HEADER: FrameHeader = {
  rows: 2,
  columns: 3,
  channels: 1,
  dtype: "int16",
  slope: 2,
  intercept: -1024,
  unit: "HU",
  padding: -2000,
  monochrome1: false,
  pixel_aspect: 1,
  pixel_spacing_mm: [0.5, 0.5],
  windows: [
    [40, 400, "LINEAR", "ABDOMEN"],
    [40, 0, "LINEAR", "BROKEN"],
    [-600, 1500, "LINEAR", null],
  ],
  window: [40, 400],
  frame: 1,
  frames: 1,
  modality: "CT",
};
const PIXELS = new Int16Array([-2000, -10, 0, 10, 20, 30]);

describe("a frame", () => {
  it("is its octets, the window to start with, those of the file that are valid, and its range without padding", () => {
    const frame = frameOf(JSON.stringify(HEADER), PIXELS.buffer);
    expect([...new Int16Array(frame.stored.buffer)]).toEqual([...PIXELS]);
    expect(frame.window).toEqual({ center: 40, width: 400, function: "LINEAR" });
    expect(frame.named.map(({ name }) => name)).toEqual(["ABDOMEN", "Of the file, 3"]);
    expect(frame.range).toBe(80); // 2 * (30 - -10)
  });
  it("starts with a straight line from black to white where its window is none of the file's, else with that one's function", () => {
    const of = (window: [number, number], kind = "SIGMOID") =>
      frameOf(JSON.stringify({ ...HEADER, windows: [[40, 400, kind, null]], window }), PIXELS.buffer).window.function;
    expect([of([40, 400]), of([41, 400]), of([40, 400], "CUBIC")]).toEqual(["SIGMOID", "LINEAR_EXACT", "LINEAR_EXACT"]);
  });
  it("that has come incomplete, or without its header, is refused", () => {
    expect(() => frameOf(JSON.stringify(HEADER), PIXELS.buffer.slice(2))).toThrow("incomplete");
    expect(() => frameOf(null, PIXELS.buffer)).toThrow("X-Frame");
  });
  it("is thinned to every second pixel of every second row", () => {
    const few = thinned(frameOf(JSON.stringify(HEADER), PIXELS.buffer), 2);
    expect([few.header.rows, few.header.columns]).toEqual([1, 2]);
    expect([...new Int16Array(few.stored.buffer)]).toEqual([-2000, 0]);
  });
});

describe("dragging a window", () => {
  const start = { center: 40, width: 300, function: "LINEAR" } as const;
  it("is wider to the right and higher downwards", () => {
    expect(dragged(start, 10, -20, 1000)).toEqual({ center: 20, width: 310, function: "LINEAR" });
  });
  it("stops at the narrowest window of the function", () => {
    expect(dragged(start, -9999, 0, 1000).width).toBe(1);
    expect(dragged({ ...start, function: "SIGMOID" }, -9999, 0, 1000).width).toBe(1e-3);
  });
  it("opens a narrow window at a speed that fits the values", () => {
    expect(dragged({ ...start, width: 1 }, 300, 0, 4000).width).toBe(41);
  });
});

it("offers presets for Hounsfield units only", () => {
  expect(presetsOf("HU").map(({ name }) => name)).toContain("Lung");
  expect(presetsOf("SUVbw")).toEqual([]);
  expect(presetsOf(null)).toEqual([]);
});

it("writes numbers as short as they may be", () => {
  expect([40, 399.6, 0.12345, -2.5, 0.00012].map(short)).toEqual(["40", "400", "0.123", "-2.50", "0.0001"]);
});
