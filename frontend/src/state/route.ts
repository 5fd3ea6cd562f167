/** The page's whole state as the query string of its address, so that every view can be kept, sent and gone back to. */

import type { Gate, Group, Hide, Region, Rerank } from "../api";
import { USUAL, type Asked, type Judgement, type UploadRef } from "./asked";
import type { Filter } from "./filter";

export type Route =
  | { page: "home" }
  | { page: "browse"; filter: Filter; offset: number; open: string | null }
  | { page: "search"; asked: Asked; open: string | null }
  | { page: "map"; open: string | null }
  | { page: "failed"; offset: number }
  | { page: "jobs"; root: string | null; folder: string }
  | { page: "reports" }
  | { page: "report"; name: string; layer: string | null; gate: string | null };

const GATES: readonly Gate[] = ["off", "hard", "soft", "top3"];
const HIDES: readonly Hide[] = ["patient", "study", "series", "none"];
const RERANKS: readonly Rerank[] = ["none", "aqe", "kreciprocal"];
const GROUPS: readonly Group[] = ["patient", "study", "series"];

function oneOf<T extends string>(told: string | null, values: readonly T[]): T | null {
  return values.find((value) => value === told) ?? null;
}

function wholeNumber(told: string | null, least: number, otherwise: number): number {
  const value = /^\d{1,9}$/.test(told ?? "") ? Number(told) : otherwise;
  return value >= least ? value : otherwise;
}

const unique = <T>(values: T[]): T[] => [...new Set(values)];

function readFilter(told: URLSearchParams): Filter {
  const facets: Record<string, string[]> = {};
  for (const [name, value] of told) {
    if (!name.startsWith("is.") || name.length === 3) continue;
    const column = name.slice(3);
    facets[column] = unique([...(facets[column] ?? []), value]);
  }
  return { facets, text: told.get("where") ?? "" };
}

function writeFilter(filter: Filter, told: URLSearchParams): void {
  for (const [column, values] of Object.entries(filter.facets)) {
    for (const value of values) told.append(`is.${column}`, value);
  }
  if (filter.text.trim()) told.set("where", filter.text);
}

/** `TOKEN` or `TOKEN*FRAME`. */
function readUpload(told: string): UploadRef | null {
  const [upload, frame] = told.split("*");
  if (!upload) return null;
  return { upload, frame: frame === undefined ? null : wholeNumber(frame, 1, 1) };
}

const writeUpload = (one: UploadRef) => (one.frame === null ? one.upload : `${one.upload}*${one.frame}`);

function readRegion(told: string | null): Region | null {
  const match = /^(\d{1,6}),(\d{1,6}),(\d{1,6}),(\d{1,6})$/.exec(told ?? "");
  if (!match) return null;
  const [x, y, width, height] = match.slice(1).map(Number) as Region;
  return width && height ? [x, y, width, height] : null;
}

function readJudgements(told: URLSearchParams): Judgement[] {
  const made = new Map<string, Judgement>();
  for (const [name, id] of told) {
    if ((name !== "like" && name !== "unlike") || !id) continue;
    made.delete(id);
    made.set(id, { id, liked: name === "like" });
  }
  return [...made.values()];
}

function readAsked(told: URLSearchParams): Asked {
  return {
    ids: unique(told.getAll("id").filter(Boolean)),
    uploads: told.getAll("upload").map(readUpload).filter((one) => one !== null),
    series: told.get("series") || null,
    allFrames: told.get("frames") === "all",
    k: wholeNumber(told.get("k"), 1, USUAL.k),
    offset: wholeNumber(told.get("offset"), 0, 0),
    layer: told.get("layer") || null,
    gate: oneOf(told.get("gate"), GATES) ?? USUAL.gate,
    filter: readFilter(told),
    hide: oneOf(told.get("hide"), HIDES) ?? USUAL.hide,
    judgements: readJudgements(told),
    combine: told.get("combine") === "max" ? "max" : "centroid",
    order: told.get("order") === "least" ? "least" : "most",
    rerank: oneOf(told.get("rerank"), RERANKS) ?? USUAL.rerank,
    groupBy: oneOf(told.get("group"), GROUPS),
    region: readRegion(told.get("region")),
    seriesBy: oneOf(told.get("series_by"), ["mean", "votes"] as const),
    exact: told.get("exact") === "1",
  };
}

function writeAsked(asked: Asked, told: URLSearchParams): void {
  for (const id of asked.ids) told.append("id", id);
  for (const one of asked.uploads) told.append("upload", writeUpload(one));
  const unusual = (name: string, value: string | number | null, usual: string | number | null) => {
    if (value !== null && value !== usual) told.set(name, String(value));
  };
  unusual("series", asked.series, null);
  if (asked.allFrames) told.set("frames", "all");
  unusual("series_by", asked.seriesBy, null);
  unusual("region", asked.region?.join(",") ?? null, null);
  unusual("gate", asked.gate, USUAL.gate);
  unusual("layer", asked.layer, null);
  unusual("hide", asked.hide, USUAL.hide);
  unusual("group", asked.groupBy, null);
  unusual("rerank", asked.rerank, USUAL.rerank);
  unusual("order", asked.order, USUAL.order);
  unusual("combine", asked.combine, USUAL.combine);
  if (asked.exact) told.set("exact", "1");
  writeFilter(asked.filter, told);
  for (const { id, liked } of asked.judgements) told.append(liked ? "like" : "unlike", id);
  unusual("k", asked.k, USUAL.k);
  unusual("offset", asked.offset, 0);
}

/** The route of a query string. What cannot be read counts as not said; the server judges the rest. */
export function readRoute(search: string): Route {
  const told = new URLSearchParams(search);
  const offset = wholeNumber(told.get("offset"), 0, 0);
  const open = told.get("open") || null;
  switch (told.get("page")) {
    case "browse":
      return { page: "browse", filter: readFilter(told), offset, open };
    case "map":
      return { page: "map", open };
    case "failed":
      return { page: "failed", offset };
    case "jobs":
      return { page: "jobs", root: told.get("root") || null, folder: told.get("folder") ?? "" };
    case "reports":
      return { page: "reports" };
    case "report":
      return { page: "report", name: told.get("name") ?? "", layer: told.get("layer"), gate: told.get("gate") };
  }
  const asked = readAsked(told);
  return asked.ids.length || asked.uploads.length || asked.series ? { page: "search", asked, open } : { page: "home" };
}

/** The query string of a route, with its `?`; the home page has "". readRoute gives the same route back. */
export function writeRoute(route: Route): string {
  const told = new URLSearchParams();
  if (route.page !== "home" && route.page !== "search") told.set("page", route.page);
  const set = (name: string, value: string | number | null) => {
    if (value) told.set(name, String(value));
  };
  switch (route.page) {
    case "search":
      writeAsked(route.asked, told);
      set("open", route.open);
      break;
    case "browse":
      writeFilter(route.filter, told);
      set("offset", route.offset);
      set("open", route.open);
      break;
    case "map":
      set("open", route.open);
      break;
    case "failed":
      set("offset", route.offset);
      break;
    case "jobs":
      set("root", route.root);
      set("folder", route.folder);
      break;
    case "report":
      set("name", route.name);
      set("layer", route.layer);
      set("gate", route.gate);
      break;
  }
  const text = told.toString();
  return text && "?" + text;
}
