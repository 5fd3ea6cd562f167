// A map of contributions as a picture to lay over an image, as explain.laid_over and the figures of `explain` have it.

import type { Explanation } from "../api";
import { ramp } from "./colour";

/** So many pixels of the picture for one place of the map, along a side. */
const FINER = 8;

type Mapped = Pick<Explanation["query"], "map">;

/** The largest contribution of either map, each as if its mean were 1: both images are coloured on one scale. */
export function strongest({ query, hit }: { query: Mapped; hit: Mapped }): number {
  return Math.max(0.01, ...[query, hit].flatMap(({ map }) => map.flat().map((value) => value * places(map))));
}

const places = (map: number[][]) => map.length * (map[0]?.length ?? 0);

/** Linear between the middles of places, level beyond them; at: 0 to 1 of the whole side. */
function neighbours(at: number, count: number): [low: number, high: number, part: number] {
  const place = Math.min(count - 1, Math.max(0, at * count - 0.5));
  const low = Math.min(Math.floor(place), Math.max(count - 2, 0));
  return [low, Math.min(low + 1, count - 1), place - low];
}

/** The value of a map at a place of it, x and y from 0 to 1. */
export function valueAt(map: number[][], x: number, y: number): number {
  const [left, right, across] = neighbours(x, map[0]!.length);
  const [top, bottom, down] = neighbours(y, map.length);
  const along = (row: number[]) => row[left]! * (1 - across) + row[right]! * across;
  return along(map[top]!) * (1 - down) + along(map[bottom]!) * down;
}

/** RGBA: the more a place speaks for the similarity the less transparent; what speaks against it is not seen. */
export function overlayPixels(map: number[][], strong: number): { width: number; height: number; pixels: Uint8ClampedArray } {
  const [width, height] = [map[0]!.length * FINER, map.length * FINER];
  const pixels = new Uint8ClampedArray(width * height * 4);
  for (let row = 0, to = 0; row < height; row++)
    for (let column = 0; column < width; column++, to += 4) {
      const value = valueAt(map, (column + 0.5) / width, (row + 0.5) / height) * places(map);
      const strength = Math.min(1, Math.max(0, value / strong));
      pixels.set([...ramp(strength), 255 * strength], to);
    }
  return { width, height, pixels };
}
