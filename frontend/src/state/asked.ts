/** What a search of the page asks for, and how it becomes another one. */

import type { Gate, Group, Hide, Region, Rerank, SearchRequest } from "../api";
import { NO_FILTER, whereOf, type Filter } from "./filter";

export interface UploadRef {
  upload: string;
  /** From 1; null for the frame that the server chooses. */
  frame: number | null;
}

export interface Judgement {
  id: string;
  liked: boolean;
}

export interface Asked {
  ids: string[];
  uploads: UploadRef[];
  series: string | null;
  /** All frames of the uploads, for series. */
  allFrames: boolean;
  k: number;
  offset: number;
  layer: string | null;
  gate: Gate;
  filter: Filter;
  hide: Hide;
  /** In the order they were made; of one image only the last. */
  judgements: Judgement[];
  combine: "centroid" | "max";
  order: "most" | "least";
  rerank: Rerank;
  groupBy: Group | null;
  region: Region | null;
  seriesBy: "mean" | "votes" | null;
  exact: boolean;
}

export const USUAL: Asked = {
  ids: [],
  uploads: [],
  series: null,
  allFrames: false,
  k: 24,
  offset: 0,
  layer: null,
  gate: "off",
  filter: NO_FILTER,
  hide: "patient",
  judgements: [],
  combine: "centroid",
  order: "most",
  rerank: "none",
  groupBy: null,
  region: null,
  seriesBy: null,
  exact: false,
};

export function requestOf(asked: Asked): SearchRequest {
  const judged = (liked: boolean) => asked.judgements.filter((one) => one.liked === liked).map((one) => one.id);
  return {
    ids: asked.ids,
    uploads: asked.uploads,
    series: asked.series,
    all_frames: asked.allFrames,
    k: asked.k,
    offset: asked.offset,
    layer: asked.layer,
    gate: asked.gate,
    where: whereOf(asked.filter),
    hide: asked.hide,
    like: judged(true),
    unlike: judged(false),
    combine: asked.combine,
    order: asked.order,
    rerank: asked.rerank,
    group_by: asked.groupBy,
    region: asked.region,
    series_by: asked.seriesBy,
    exact: asked.exact,
  };
}

export function queryCount(asked: Asked): number {
  return asked.ids.length + asked.uploads.length + (asked.series ? 1 : 0);
}

const alone = { series: null, seriesBy: null, allFrames: false, region: null, offset: 0 } as const;

/** Whether series are ranked, not images. */
export const ranksSeries = (asked: Asked): boolean => asked.series !== null || asked.allFrames;

/** Another query under the same options: no page, region, judgement or series of the earlier one is left. */
function afresh(asked: Asked): Asked {
  return { ...asked, ids: [], uploads: [], ...alone, judgements: [] };
}

export const fromRecord = (asked: Asked, id: string): Asked => ({ ...afresh(asked), ids: [id] });
export const fromUploads = (asked: Asked, uploads: UploadRef[]): Asked => ({ ...afresh(asked), uploads });
export const fromSeries = (asked: Asked, series: string): Asked => ({
  ...afresh(asked),
  series,
  seriesBy: "mean",
  groupBy: null,
  rerank: "none",
  hide: asked.hide,
});

/** All frames of the uploads for series, or the chosen frame for images. */
export function withAllFrames(asked: Asked, allFrames: boolean): Asked {
  return { ...asked, ...alone, allFrames, seriesBy: allFrames ? "mean" : null, groupBy: null, rerank: "none" };
}

/** One more image in the query; a region is of one picture, and a series is a query by itself. */
export function withRecord(asked: Asked, id: string): Asked {
  return { ...asked, ids: [...asked.ids.filter((other) => other !== id), id], ...alone };
}
export function withUploads(asked: Asked, uploads: UploadRef[]): Asked {
  return { ...asked, uploads: [...asked.uploads, ...uploads], ...alone };
}

export function withoutRecord(asked: Asked, id: string): Asked {
  return { ...asked, ids: asked.ids.filter((other) => other !== id), region: null, offset: 0 };
}
export function withoutUpload(asked: Asked, upload: string): Asked {
  return { ...asked, uploads: asked.uploads.filter((other) => other.upload !== upload), region: null, offset: 0 };
}

/** A judgement made, changed, or taken back where the same is made again. */
export function judged(asked: Asked, id: string, liked: boolean): Asked {
  const same = asked.judgements.some((one) => one.id === id && one.liked === liked);
  const others = asked.judgements.filter((one) => one.id !== id);
  return { ...asked, offset: 0, judgements: same ? others : [...others, { id, liked }] };
}

export function undone(asked: Asked): Asked {
  return { ...asked, offset: 0, judgements: asked.judgements.slice(0, -1) };
}
