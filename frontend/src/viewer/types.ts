// What the viewer shows and tells.

/** An image by its name in the gallery, or a frame (from 1) of an upload that has `frames` of them. */
export type ViewerImage =
  | { kind: "record"; id: string; digest: string | null }
  | { kind: "upload"; upload: string; frame: number; frames: number };

/** x, y, width, height in whole pixels of the image, as POST /search takes it. */
export type Region = [number, number, number, number];

/** One side of an explanation: `map` (h, w) sums to the similarity; `box`: what it covers, left, top, right, bottom in
 *  pixels of the image of `rows` x `columns`; may reach outside. */
export interface MapSide {
  rows: number;
  columns: number;
  box: [number, number, number, number];
  map: number[][];
}

/** The document of `cbmir explain --json`, as far as it is shown here. */
export interface Maps {
  similarity: number;
  query: MapSide;
  hit: MapSide;
}
