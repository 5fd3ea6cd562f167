import { describe, expect, it } from "vitest";
import { columnName, counted, distance, duration, fixed, percent } from "./words";

describe("words", () => {
  it("count with the right noun", () => {
    expect([counted(1, "image"), counted(6190, "image"), counted(2, "study", "studies")]).toEqual([
      "1 image",
      "6,190 images",
      "2 studies",
    ]);
  });

  it("never round a doubt away", () => {
    expect([0, 0.004, 0.5, 0.994, 0.999, 1].map(percent)).toEqual(["0 %", "<1 %", "50 %", ">99 %", ">99 %", "100 %"]);
  });

  it("tell distances in four figures", () => {
    expect([0.58123, 12.3456, 1234.5].map(distance)).toEqual(["0.5812", "12.35", "1235"]);
  });

  it("name columns", () => {
    expect(["age_band", "view_position", "class"].map(columnName)).toEqual(["Age", "View position", "Class"]);
  });

  it("show what is no number as a dash", () => {
    expect([fixed(0.5), fixed(null), fixed(Number.NaN)]).toEqual(["0.500", "–", "–"]);
  });

  it("say how long in a unit that fits", () => {
    expect([12, 600, 9000].map(duration)).toEqual(["12 s", "10 min", "2.5 h"]);
  });
});
