// The slices an image belongs to, and the frame of one of them.

import { useEffect, useState } from "preact/hooks";
import * as api from "../api";
import { type Frame, frameOf } from "./frame";
import type { Frames } from "./frames";
import type { ViewerImage } from "./types";

/** start: where in its slices the image is. problem: why there are no others, where they could not be listed. known:
 *  whether its frame has an address that browsers may keep for good; that of a record has its digest. */
export interface Stack {
  slices: ViewerImage[];
  start: number;
  problem: string | null;
  known: boolean;
}

export const keyOf = (image: ViewerImage) => (image.kind === "record" ? image.id : `${image.upload}/${image.frame}`);

export function addressOf(image: ViewerImage): string {
  return image.kind === "record" ? api.frameOf(image.id, image.digest) : api.uploadFrame(image.upload, image.frame);
}

export async function loadFrame(address: string): Promise<Frame> {
  const response = await api.request(address);
  return frameOf(response.headers.get("X-Frame"), await response.arrayBuffer());
}

function alone(image: ViewerImage): Stack {
  if (image.kind === "record") return { slices: [image], start: 0, problem: null, known: image.digest !== null };
  const slices = Array.from({ length: image.frames }, (_, i) => ({ ...image, frame: i + 1 }));
  return { slices, start: image.frame - 1, problem: null, known: true };
}

async function stackOf(image: ViewerImage, signal: AbortSignal): Promise<Stack> {
  if (image.kind === "upload") return alone(image);
  const { slices, index } = await api.seriesOf(image.id, signal);
  return { slices: slices.map(({ id, digest }) => ({ kind: "record", id, digest })), start: index, problem: null, known: true };
}

/** The image alone at once, with its neighbours as soon as they are known. */
export function useStack(image: ViewerImage | null): Stack | null {
  const key = image && keyOf(image);
  const [known, setKnown] = useState<{ key: string; stack: Stack } | null>(null);
  useEffect(() => {
    if (!image || !key) return;
    const leaving = new AbortController();
    stackOf(image, leaving.signal).then(
      (stack) => setKnown({ key, stack }),
      (error: Error) => {
        const problem = `The other slices could not be listed. ${error.message}`;
        if (!leaving.signal.aborted) setKnown({ key, stack: { ...alone(image), problem, known: true } });
      },
    );
    return () => leaving.abort();
  }, [key]);
  if (!image) return null;
  return known?.key === key ? known.stack : alone(image);
}

export interface Shown {
  frame: Frame | null;
  loading: boolean;
  problem: string | null;
  again: () => void;
}

interface Got {
  of: string;
  address: string;
  frame: Frame | null;
  problem: string | null;
}

/** The frame of an address, as soon as there is one. While the next slice of the same stack loads the last one stays;
 *  one of another stack never does. of: key of the stack. */
export function useFrame(of: string, address: string | null, frames: Frames): Shown {
  const [got, setGot] = useState<Got | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    if (!address) return;
    let current = true;
    frames.get(address).then(
      (frame) => current && setGot({ of, address, frame, problem: null }),
      (error: Error) => current && setGot({ of, address, frame: null, problem: error.message }),
    );
    return () => {
      current = false;
    };
  }, [of, address, attempt]);
  const shown = got?.of === of ? got : null;
  const loading = shown?.address !== address;
  return {
    frame: shown?.frame ?? null,
    loading,
    problem: (!loading && shown?.problem) || null,
    again: () => {
      setGot(null);
      setAttempt(attempt + 1);
    },
  };
}
