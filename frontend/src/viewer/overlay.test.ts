import { describe, expect, it } from "vitest";
import { contrast, oklch, ramp } from "./colour";
import { overlayPixels, strongest, valueAt } from "./overlay";

describe("colours", () => {
  it("are those of the screen at the ends of lightness", () => {
    expect([oklch(0, 0, 0), oklch(1, 0, 0)]).toEqual([
      [0, 0, 0],
      [255, 255, 255],
    ]);
  });
  it("agree with the known OKLCH of red", () => {
    expect(oklch(0.62796, 0.25768, 29.234)).toEqual([255, 0, 0]);
  });
  it("have the contrast WCAG gives them", () => {
    expect(contrast([0, 0, 0], [255, 255, 255])).toBeCloseTo(21);
    expect(contrast([119, 119, 119], [255, 255, 255])).toBeCloseTo(4.48, 2);
  });
  it("of the ramp are inside what a screen shows, so that its steps stay even", () => {
    for (let i = 0; i <= 20; i++) expect(Math.min(...ramp(i / 20))).toBeGreaterThan(0);
    for (let i = 0; i <= 20; i++) expect(Math.max(...ramp(i / 20))).toBeLessThan(255);
  });
});

describe("a map", () => {
  const map = [
    [0, 1],
    [2, 3],
  ];
  it("is linear between the middles of its places and level beyond", () => {
    expect([valueAt(map, 0, 0), valueAt(map, 0.5, 0.5), valueAt(map, 1, 1), valueAt(map, 0.5, 0)]).toEqual([0, 1.5, 3, 0.5]);
  });
  it("of one place is level", () => {
    expect(valueAt([[5]], 0.1, 0.9)).toBe(5);
  });
  it("is coloured on one scale with the other, its mean being 1", () => {
    expect(strongest({ query: { map }, hit: { map: [[7]] } })).toBe(12);
  });
  it("is opaque where it is strongest and not seen where it speaks against", () => {
    const { width, pixels } = overlayPixels([[-1, 1]], 2);
    expect([pixels[3], pixels[4 * (width - 1) + 3]]).toEqual([0, 255]);
    expect([...pixels.slice(4 * (width - 1), 4 * (width - 1) + 3)]).toEqual(ramp(1));
  });
});
