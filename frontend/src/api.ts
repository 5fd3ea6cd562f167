/** The typed client of the server's API: the page does everything through here. Paths are relative, so that the page also works below a prefix. */

export type Role = "reader" | "contributor" | "admin";
export type Gate = "off" | "hard" | "soft" | "top3";
export type Hide = "patient" | "study" | "series" | "none";
export type Rerank = "none" | "aqe" | "kreciprocal";
export type Group = "patient" | "study" | "series";
/** x, y, width, height in whole pixels of the image. */
export type Region = [number, number, number, number];
export type Counts = Record<string, number>;

export interface Session {
  auth: "none" | "token";
  signed_in: boolean;
  role: Role | null;
  name: string | null;
}

export interface Gallery {
  name: string;
  generation: number;
  records: number;
  patients: number;
  files: Counts;
  by_class: Counts;
  by_modality: Counts;
  by_source: Counts;
  encoder: {
    name: string;
    fingerprint: string;
    precision: string;
    layers: Counts;
    classes: string[];
    can: { soft_gate: boolean; score: boolean; in_distribution: boolean; rerank: Rerank[]; maps: boolean };
  };
  limits: { k: number; upload_bytes: number };
  page_note: string;
}

export interface FailedFile {
  handle: string;
  outcome: string;
  reason: string;
}

export interface ImageRecord {
  id: string;
  patient: string | null;
  study: string | null;
  series: string | null;
  frame: number;
  label: string | null;
  class: string | null;
  predicted: string | null;
  probability: number | null;
  modality: string | null;
  source: string | null;
  labels: Record<string, unknown>;
  attributes: Record<string, unknown>;
  provenance: Record<string, unknown>;
  digest: string | null;
}

export interface Slice {
  id: string;
  frame: number;
  digest: string | null;
}

export interface Series {
  series: string | null;
  index: number;
  slices: Slice[];
}

/** The header `X-Frame` of a frame: value = stored * slope + intercept. */
export interface FrameHeader {
  rows: number;
  columns: number;
  channels: 1 | 3;
  dtype: "int16" | "uint8";
  slope: number;
  intercept: number;
  unit: string | null;
  padding: number | null;
  monochrome1: boolean;
  pixel_aspect: number;
  pixel_spacing_mm: [number, number] | null;
  windows: [number, number, string, string | null][];
  /** Null for colour. */
  window: [number, number] | null;
  frame: number;
  frames: number;
  modality: string | null;
}

export interface Upload {
  upload: string;
  frames: number;
  first: number;
  rows: number;
  columns: number;
  modality: string | null;
  expires_in_s: number;
}

export interface SearchRequest {
  ids: string[];
  uploads: { upload: string; frame: number | null }[];
  series: string | null;
  all_frames: boolean;
  k: number;
  offset: number;
  layer: string | null;
  gate: Gate;
  where: string | null;
  hide: Hide;
  like: string[];
  unlike: string[];
  combine: "centroid" | "max";
  order: "most" | "least";
  rerank: Rerank;
  group_by: Group | null;
  region: Region | null;
  series_by: "mean" | "votes" | null;
  exact: boolean;
}

export interface Hit {
  rank: number;
  id: string;
  distance: number;
  score: number | null;
  class: string | null;
  label: string | null;
  predicted: string | null;
  modality: string | null;
  patient: string | null;
  study: string | null;
  series: string | null;
  images: number | null;
  votes: number | null;
  digest: string | null;
  frame: number | null;
}

export interface SearchResult {
  query: {
    id: string | null;
    ids: string[];
    frame: number | null;
    predicted: { class: string; probability: number }[];
    in_distribution: boolean | null;
    layer: string;
    gate: Gate;
    candidates: number;
  };
  where: string | null;
  offset: number;
  order: "most" | "least";
  rerank: Rerank;
  grouped_by: Group | null;
  n_candidates: number;
  n_allowed: number;
  feedback: { like: string[]; unlike: string[] };
  notes: string[];
  by: string;
  hits: Hit[];
}

/** One picture of an explanation; the map's places sum to the similarity and cover `box` (left, top, right, bottom in pixels). */
export interface ExplainedSide {
  id: string | null;
  frame: number;
  class: string | null;
  rows: number;
  columns: number;
  box: [number, number, number, number];
  map: number[][];
}

export interface Explanation {
  layer: string;
  similarity: number;
  distance: number;
  query: ExplainedSide;
  hit: ExplainedSide;
}

export interface AtlasPoints {
  n: number;
  shown: number;
  bounds: [number, number, number, number];
  classes: string[];
  points: { id: string[]; x: number[]; y: number[]; class: number[] };
}

export interface Job {
  id: string;
  kind: "index" | "reindex";
  state: "running" | "done" | "failed" | "cancelled";
  started: string;
  done: number;
  total: number | null;
  rate: number | null;
  outcomes: Counts;
  message: string | null;
  report: Record<string, unknown> | null;
}

/** A folder below a root; `path` names it in requests, and tells nothing. */
export interface Folder {
  name: string;
  path: string;
}

export interface ReportLine {
  name: string;
  encoder: string;
  n_queries: number;
  n_gallery: number;
  mAP: number | null;
}

/** What the server said was wrong: problem+json (RFC 9457). `status` is 0 where no server answered. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
  }
}

const ROOT = "api/v1";

let onSignedOut: () => void = () => undefined;
/** Calls `listener` whenever the server says that the session has ended. */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

/** `path` below the API with `query`; what is null, undefined or "" is left out. */
export function url(path: string, query: Record<string, string | number | null | undefined> = {}): string {
  const told = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(told.map(([name, value]) => [name, String(value)])).toString();
  return `${ROOT}${path}${text && "?" + text}`;
}

const part = encodeURIComponent;

async function problemOf(response: Response): Promise<Problem> {
  const told: unknown = await response.json().catch(() => null);
  const { title, detail } = (told ?? {}) as { title?: unknown; detail?: unknown };
  const fallback = `The server answered ${response.status} without saying why.`;
  return new Problem(
    response.status,
    typeof title === "string" ? title : fallback,
    typeof detail === "string" ? detail : typeof title === "string" ? "" : fallback,
  );
}

/** The answer to a request. Throws Problem where the server refuses or cannot be reached; an abort stays an AbortError. */
export async function request(address: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new Problem(0, "No answer", "The server cannot be reached. Is `cbmir serve` still running?");
  }
  if (response.ok) return response;
  if (response.status === 401) onSignedOut();
  throw await problemOf(response);
}

async function get<T>(address: string, signal?: AbortSignal): Promise<T> {
  return (await (await request(address, { signal: signal ?? null })).json()) as T;
}

function withJson(method: string, body: unknown, signal?: AbortSignal): RequestInit {
  return { method, body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal: signal ?? null };
}

async function send<T>(method: string, address: string, body: unknown, signal?: AbortSignal): Promise<T> {
  return (await (await request(address, withJson(method, body, signal))).json()) as T;
}

export const session = (signal?: AbortSignal) => get<Session>(url("/session"), signal);
export const signIn = (token: string) => send<Session>("POST", url("/session"), { token });
export const signOut = () => request(url("/session"), { method: "DELETE" });

export const gallery = (signal?: AbortSignal) => get<Gallery>(url("/gallery"), signal);
export const failed = (offset: number, limit: number, signal?: AbortSignal) =>
  get<{ total: number; failed: FailedFile[] }>(url("/gallery/failed", { offset, limit }), signal);
export const facets = (where: string | null, signal?: AbortSignal) =>
  get<{ n: number; facets: Record<string, Counts> }>(url("/facets", { where }), signal);
export const records = (where: string | null, offset: number, limit: number, signal?: AbortSignal) =>
  get<{ total: number; records: ImageRecord[] }>(url("/records", { where, offset, limit }), signal);
export const record = (id: string, signal?: AbortSignal) => get<ImageRecord>(url(`/records/${part(id)}`), signal);
export const seriesOf = (id: string, signal?: AbortSignal) => get<Series>(url(`/records/${part(id)}/series`), signal);

/** Where a picture is; `digest` makes a changed picture another address, so that browsers may keep each for good. */
export const thumbnailOf = (id: string, digest: string | null, size: 128 | 256 = 256) =>
  url(`/records/${part(id)}/thumbnail`, { size, v: digest });
export const frameOf = (id: string, digest: string | null) => url(`/records/${part(id)}/frame`, { v: digest });
/** Of a frame only what its header tells. */
export async function frameHeader(address: string, signal?: AbortSignal): Promise<FrameHeader> {
  const response = await request(address, { signal: signal ?? null });
  await response.body?.cancel();
  return JSON.parse(response.headers.get("X-Frame") ?? "null") as FrameHeader;
}
export const uploadThumbnail = (upload: string, frame: number | null, size: 128 | 256 = 256) =>
  url(`/uploads/${part(upload)}/thumbnail`, { frame, size });
export const uploadFrame = (upload: string, frame: number) => url(`/uploads/${part(upload)}/frames/${frame}`);

export async function upload(file: Blob, name: string, signal?: AbortSignal): Promise<Upload> {
  const form = new FormData();
  form.append("file", file, name);
  const response = await request(url("/uploads"), { method: "POST", body: form, signal: signal ?? null });
  return (await response.json()) as Upload;
}
export const uploadInfo = (token: string, signal?: AbortSignal) => get<Upload>(url(`/uploads/${part(token)}`), signal);
export const dropUpload = (token: string) => request(url(`/uploads/${part(token)}`), { method: "DELETE" });

export const search = (asked: SearchRequest, signal?: AbortSignal) =>
  send<SearchResult>("POST", url("/search"), asked, signal);

export interface ExplainRequest {
  id: string | null;
  upload: { upload: string; frame: number | null } | null;
  hit: string;
  region: Region | null;
}
export const explain = (asked: ExplainRequest, signal?: AbortSignal) =>
  send<Explanation>("POST", url("/explain"), asked, signal);

export async function exported(asked: SearchRequest, format: "csv" | "json"): Promise<Blob> {
  return (await request(url("/export"), withJson("POST", { search: asked, format }))).blob();
}

export const atlas = (
  view: { x0: number; y0: number; x1: number; y1: number } | null,
  limit: number,
  signal?: AbortSignal,
) => get<AtlasPoints>(url("/atlas", { ...view, limit }), signal);

export const roots = (signal?: AbortSignal) => get<{ name: string }[]>(url("/roots"), signal);
export const folders = (root: string, path: string, signal?: AbortSignal) =>
  get<{ path: string; folders: Folder[] }>(url(`/roots/${part(root)}/folders`, { path }), signal);

export const jobs = (signal?: AbortSignal) => get<Job[]>(url("/jobs"), signal);
export const startIndex = (root: string, folder: string) =>
  send<Job>("POST", url("/jobs"), { kind: "index", root, folder });
export const startReindex = (encoder: string) => send<Job>("POST", url("/jobs"), { kind: "reindex", encoder });
export const cancelJob = (id: string) => request(url(`/jobs/${part(id)}`), { method: "DELETE" });
export const jobEvents = (id: string) => new EventSource(url(`/jobs/${part(id)}/events`));

export const reports = (signal?: AbortSignal) => get<ReportLine[]>(url("/reports"), signal);
export const report = (name: string, signal?: AbortSignal) => get<unknown>(url(`/reports/${part(name)}`), signal);
export const figures = (name: string, signal?: AbortSignal) => get<string[]>(url(`/reports/${part(name)}/figures`), signal);
export const figureOf = (name: string, file: string) => url(`/reports/${part(name)}/figures/${part(file)}`);
