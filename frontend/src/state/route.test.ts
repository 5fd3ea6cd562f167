import { describe, expect, it } from "vitest";
import { fromRecord, fromSeries, judged, requestOf, undone, USUAL, withRecord, type Asked } from "./asked";
import { readRoute, writeRoute, type Route } from "./route";

const search = (asked: Partial<Asked>, open: string | null = null): Route => ({
  page: "search",
  asked: { ...USUAL, ...asked },
  open,
});

describe("the address", () => {
  const routes: Route[] = [
    { page: "home" },
    { page: "browse", filter: { facets: { class: ["eye", ""], "a b": ["x&y"] }, text: "n>3" }, offset: 60, open: "a1" },
    { page: "map", open: "a1" },
    { page: "failed", offset: 100 },
    { page: "jobs", root: "archive", folder: "2024/ä b" },
    { page: "reports" },
    { page: "report", name: "organ", layer: "fc2", gate: "hard" },
    search({ ids: ["a1"] }),
    search({
      ids: ["a1", "b2"],
      uploads: [{ upload: "T-_x", frame: 12 }, { upload: "U", frame: null }],
      k: 48,
      offset: 96,
      layer: "fc3",
      gate: "top3",
      filter: { facets: { modality: ["CT"] }, text: "age_band<60" },
      hide: "none",
      judgements: [{ id: "c", liked: true }, { id: "d", liked: false }, { id: "e", liked: true }],
      combine: "max",
      order: "least",
      rerank: "aqe",
      groupBy: "study",
      region: [0, 4, 30, 20],
      exact: true,
    }, "h9"),
    search({ series: "s1", seriesBy: "votes" }),
    search({ uploads: [{ upload: "T", frame: null }], allFrames: true, seriesBy: "mean" }),
  ];

  it.each(routes.map((route) => [writeRoute(route) || "(home)", route] as const))("%s is read as written", (_, route) => {
    expect(readRoute(writeRoute(route))).toEqual(route);
  });

  it("says only what is unusual", () => {
    expect(writeRoute(search({ ids: ["a1"] }))).toBe("?id=a1");
    expect(writeRoute(search({ ids: ["a1"], gate: "hard" }))).toBe("?id=a1&gate=hard");
  });

  it("that cannot be read counts as not said", () => {
    expect(readRoute("?id=a1&gate=sideways&k=-3&offset=1e9&region=1,2,0,4&hide=&rerank=x")).toEqual(search({ ids: ["a1"] }));
    expect(readRoute("?page=nowhere")).toEqual({ page: "home" });
  });

  it("keeps the last of two judgements of one image", () => {
    const route = readRoute("?id=a&like=b&unlike=c&unlike=b");
    expect(route.page === "search" && route.asked.judgements).toEqual([
      { id: "c", liked: false },
      { id: "b", liked: false },
    ]);
  });
});

describe("a search", () => {
  const before: Asked = {
    ...USUAL,
    ids: ["a"],
    gate: "hard",
    offset: 24,
    region: [0, 0, 9, 9],
    filter: { facets: { modality: ["CT"] }, text: "" },
    judgements: [{ id: "x", liked: true }],
  };

  it("from a hit keeps the options and forgets page, region and judgements", () => {
    expect(fromRecord(before, "b")).toEqual({ ...before, ids: ["b"], offset: 0, region: null, judgements: [] });
  });

  it("of a series has no single images", () => {
    expect(fromSeries(before, "s")).toMatchObject({ ids: [], uploads: [], series: "s", seriesBy: "mean", region: null });
  });

  it("with one more image has no region, and no image twice", () => {
    expect(withRecord(before, "b")).toMatchObject({ ids: ["a", "b"], region: null, offset: 0 });
    expect(withRecord(before, "a").ids).toEqual(["a"]);
  });

  it("is judged, judged otherwise, and taken back", () => {
    const twice = judged(judged(before, "y", true), "x", false);
    expect(twice.judgements).toEqual([{ id: "y", liked: true }, { id: "x", liked: false }]);
    expect(judged(twice, "x", false).judgements).toEqual([{ id: "y", liked: true }]);
    expect(undone(twice).judgements).toEqual([{ id: "y", liked: true }]);
  });

  it("is sent as the API wants it", () => {
    expect(requestOf({ ...before, groupBy: "patient" })).toMatchObject({
      ids: ["a"],
      where: "modality=CT",
      like: ["x"],
      unlike: [],
      group_by: "patient",
      region: [0, 0, 9, 9],
      series_by: null,
      all_frames: false,
    });
  });
});
