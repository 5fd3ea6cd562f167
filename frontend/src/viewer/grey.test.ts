import { describe, expect, it } from "vitest";
import { curve, greyTable, opaqueGreys, paintColour, paintGrey, type Scale, type Window, windowIsValid } from "./grey";

const CT: Scale = { dtype: "int16", slope: 1, intercept: -1024, padding: null, monochrome1: false };
const bits = (stored: number) => stored & 0xffff;
const window = (center: number, width: number, kind: Window["function"] = "LINEAR"): Window => ({ center, width, function: kind });

describe("the curve of a window", () => {
  it("is black at 0.5 above the lower end of LINEAR, white half below the upper, as PS3.3 C.11.2.1.2.1 has it", () => {
    const show = curve(window(2048, 4096));
    expect([show(0), show(2047.5), show(4095)]).toEqual([0, 0.5, 1]);
  });
  it("is a step for LINEAR of width 1", () => {
    expect([0, 1].map(curve(window(1, 1)))).toEqual([0, 1]);
    expect([0.5, 0.51].map(curve(window(1, 1)))).toEqual([0, 1]);
  });
  it("is half at the centre of LINEAR_EXACT and of SIGMOID", () => {
    expect(curve(window(10, 4, "LINEAR_EXACT"))(10)).toBe(0.5);
    expect(curve(window(10, 4, "SIGMOID"))(10)).toBe(0.5);
    expect(curve(window(10, 4, "SIGMOID"))(11)).toBeCloseTo(1 / (1 + Math.exp(-1)));
  });
  it("knows that LINEAR is at least 1 wide and the others wider than nothing", () => {
    expect([window(0, 0.5), window(0, 0.5, "SIGMOID"), window(0, 0, "LINEAR_EXACT"), window(NaN, 9)].map(windowIsValid)).toEqual([
      false,
      true,
      false,
      false,
    ]);
  });
});

describe("grey levels", () => {
  it("go through the rescale, negative stored values too", () => {
    const greys = greyTable(CT, window(-1024.5, 2049, "LINEAR_EXACT"), false); // black at -2049, white at 0
    expect([greys[bits(1024)], greys[bits(-1025)], greys[bits(0)]]).toEqual([255, 0, 128]);
  });
  it("round halves up", () => {
    const greys = greyTable({ ...CT, dtype: "uint8", intercept: 0 }, window(1, 2, "LINEAR_EXACT"), false);
    expect([...greys.slice(0, 4)]).toEqual([0, 128, 255, 255]); // 127.5 is 128
  });
  it("of MONOCHROME1 are the other way round, and padding is black either way", () => {
    const scale: Scale = { dtype: "uint8", slope: 1, intercept: 0, padding: 7, monochrome1: true };
    const greys = greyTable(scale, window(5, 10, "LINEAR_EXACT"), false);
    expect([greys[0], greys[10], greys[7]]).toEqual([255, 0, 0]);
    expect(greyTable(scale, window(5, 10, "LINEAR_EXACT"), true)[7]).toBe(0);
    expect(greyTable(scale, window(5, 10, "LINEAR_EXACT"), true)[10]).toBe(255);
  });
  it("are written into the table that is given, when its size is right", () => {
    const table = new Uint8Array(65536);
    expect(greyTable(CT, window(0, 100), false, table)).toBe(table);
    expect(greyTable({ ...CT, dtype: "uint8" }, window(0, 100), false, table)).not.toBe(table);
  });
});

describe("painting", () => {
  it("looks every pixel up", () => {
    const greys = new Uint8Array(65536);
    greys[bits(-1)] = 9;
    const into = new Uint32Array(2);
    paintGrey(new Uint16Array(new Int16Array([0, -1]).buffer), greys, opaqueGreys(), into);
    expect([...new Uint8Array(into.buffer)]).toEqual([0, 0, 0, 255, 9, 9, 9, 255]);
  });
  it("leaves colour as it is, or inverts it", () => {
    const into = new Uint8ClampedArray(4);
    paintColour(new Uint8Array([1, 2, 255]), false, into);
    expect([...into]).toEqual([1, 2, 255, 255]);
    paintColour(new Uint8Array([1, 2, 255]), true, into);
    expect([...into]).toEqual([254, 253, 0, 255]);
  });
});
