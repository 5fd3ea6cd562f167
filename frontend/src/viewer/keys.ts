// The keyboard of the viewer: what a key asks for, and the list of them that people read.

export type Command =
  | { do: "slice"; by: number }
  | { do: "move"; dx: number; dy: number; resize: boolean }
  | { do: "pan"; dx: number; dy: number }
  | { do: "zoom"; factor: number }
  | { do: "width"; by: number }
  | { do: "level"; by: number }
  | { do: "preset"; number: number }
  | { do: "first" | "last" | "invert" | "reset" | "similar" | "region" | "maps" | "search" };

type Press = Pick<KeyboardEvent, "key" | "shiftKey" | "ctrlKey" | "metaKey" | "altKey">;

const ARROWS: Record<string, [dx: number, dy: number]> = {
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
};

const PLAIN: Record<string, Command> = {
  PageUp: { do: "slice", by: -10 },
  PageDown: { do: "slice", by: 10 },
  Home: { do: "first" },
  End: { do: "last" },
  "+": { do: "zoom", factor: 1.25 },
  "=": { do: "zoom", factor: 1.25 },
  "-": { do: "zoom", factor: 0.8 },
  "[": { do: "width", by: -1 },
  "]": { do: "width", by: 1 },
  ",": { do: "level", by: -1 },
  ".": { do: "level", by: 1 },
  i: { do: "invert" },
  " ": { do: "reset" },
  f: { do: "similar" },
  r: { do: "region" },
  m: { do: "maps" },
};

/** drawing: a rectangle is being made, which the arrows then move and Enter searches. */
export function commandOf({ key, shiftKey, ctrlKey, metaKey, altKey }: Press, drawing: boolean): Command | null {
  if (ctrlKey || metaKey || altKey) return null;
  const arrow = ARROWS[key];
  if (arrow) {
    const [dx, dy] = arrow;
    if (drawing) return { do: "move", dx, dy, resize: shiftKey };
    return shiftKey ? { do: "pan", dx, dy } : { do: "slice", by: dx + dy };
  }
  if (key === "Enter") return drawing ? { do: "search" } : null;
  if (/^[1-9]$/.test(key)) return { do: "preset", number: Number(key) };
  return PLAIN[key] ?? PLAIN[key.toLowerCase()] ?? null;
}

export const VIEWER_KEYS: readonly [keys: string, what: string][] = [
  ["Drag", "window: to the right wider, down darker"],
  ["Wheel, ↑ ↓ ← →", "slices; Page up and down: ten; Home, End"],
  ["Ctrl + wheel, right drag, + −", "zoom; double click: enlarge here"],
  ["Shift + drag, middle drag, Shift + arrows", "move the image"],
  ["1 … 6", "windows for CT: soft tissue, lung, bone, brain, mediastinum, liver"],
  ["[ ]  , .", "narrower, wider; lower, higher level"],
  ["i", "invert"],
  ["Space", "reset"],
  ["r", "draw a region: drag, click two corners, or arrows to move and Shift + arrows to resize; Enter searches"],
  ["f", "find similar images"],
  ["m", "why similar"],
  ["Esc", "leave the region, close"],
];
