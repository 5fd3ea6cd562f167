import { describe, expect, it } from "vitest";
import { interval, lowestTenth, polyline, shares } from "./metrics";

describe("a report", () => {
  it("knows an interval from other things", () => {
    expect(interval([0.1, 0.2])).toEqual([0.1, 0.2]);
    expect([interval([0.1]), interval(["a", 1]), interval(null), interval(0.5)]).toEqual([null, null, null, null]);
  });

  it("divides each row of the confusion matrix by its sum", () => {
    expect(
      shares([
        [3, 1],
        [0, 0],
      ]),
    ).toEqual([
      [0.75, 0.25],
      [0, 0],
    ]);
  });

  it("draws precision upwards", () => {
    expect(polyline([0, 0.5, 1], [1, 0.5, 0], 100)).toBe("0.0,0.0 50.0,50.0 100.0,100.0");
  });

  it("starts the axis at the tenth below the lowest point", () => {
    expect(lowestTenth([[1, 0.93], [0.99, 0.71]])).toBe(0.7);
    expect(lowestTenth([[1, 1]])).toBe(0.9);
    expect(lowestTenth([[0.02]])).toBe(0);
  });
});
