import { describe, expect, it } from "vitest";
import { isEmpty, NO_FILTER, quoted, toggled, whereOf } from "./filter";

describe("a filter", () => {
  it("is nothing where nothing is ticked", () => {
    expect(whereOf(NO_FILTER)).toBeNull();
    expect(whereOf({ facets: {}, text: "  " })).toBeNull();
  });

  it("joins columns by and, values of one column by in", () => {
    const filter = toggled(toggled(toggled(NO_FILTER, "modality", "CT"), "modality", "MR"), "class", "chest");
    expect(whereOf(filter)).toBe("modality in (CT, MR) and class=chest");
  });

  it("keeps an `or` of the text in brackets", () => {
    expect(whereOf({ facets: { class: ["eye"] }, text: "age_band<60 or source=a" })).toBe(
      "class=eye and (age_band<60 or source=a)",
    );
  });

  it("leaves out one column, for the counts beside its own values", () => {
    const filter = { facets: { modality: ["CT"], class: ["chest"] }, text: "" };
    expect(whereOf(filter, "modality")).toBe("class=chest");
  });

  it("quotes spaces, marks, words of the language and the empty value", () => {
    expect(["ge", "united imaging", 'say "a"', "or", "", "a,b", "soft-tissue"].map(quoted)).toEqual([
      "ge",
      '"united imaging"',
      '"say ""a"""',
      '"or"',
      '""',
      '"a,b"',
      "soft-tissue",
    ]);
  });

  it("forgets a column when its last value is unticked", () => {
    const ticked = toggled(NO_FILTER, "modality", "CT");
    expect(isEmpty(ticked)).toBe(false);
    expect(toggled(ticked, "modality", "CT")).toEqual(NO_FILTER);
  });
});
