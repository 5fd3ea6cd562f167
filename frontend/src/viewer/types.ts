// What the viewer shows.

/** An image by its name in the gallery, or a frame (from 1) of an upload that has `frames` of them. */
export type ViewerImage =
  | { kind: "record"; id: string; digest: string | null }
  | { kind: "upload"; upload: string; frame: number; frames: number };
