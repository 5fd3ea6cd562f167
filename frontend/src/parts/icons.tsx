/** Icons as strokes on a 16 x 16 grid. They are decoration: what holds them has the words. */

const PATHS = {
  add: "M8 3v10M3 8h10",
  close: "M4 4l8 8M12 4l-8 8",
  check: "M3 8.5l3.2 3.2L13 5",
  similar: "M2.5 2.5h6v6h-6zM11 3.5h2.5M11 6.5h2.5M2.5 11.5h11M2.5 14h7",
  like: "M8 13.2C4.2 10.6 2.4 8.4 2.4 6.2a2.9 2.9 0 0 1 5.6-1 2.9 2.9 0 0 1 5.6 1c0 2.2-1.8 4.4-5.6 7z",
  unlike: "M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM4.2 4.2l7.6 7.6",
  undo: "M5.5 3L2.5 6l3 3M2.5 6h7a4 4 0 0 1 0 8H6",
  upload: "M8 10.5V2.5M4.8 5.4L8 2.5l3.2 2.9M2.5 10v3.5h11V10",
  download: "M8 2.5v8M4.8 7.6L8 10.5l3.2-2.9M2.5 11v2.5h11V11",
  theme: "M8 2.5a5.5 5.5 0 1 0 0 11zM8 2.5a5.5 5.5 0 0 1 0 11",
  help: "M5.8 6.2a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.6M8 12.2v.3",
  left: "M10 3L5 8l5 5",
  right: "M6 3l5 5-5 5",
  folder: "M2 4.2h4.2l1.4 1.6H14v7H2z",
  region: "M2.5 5V2.5H5M11 2.5h2.5V5M13.5 11v2.5H11M5 13.5H2.5V11",
  stack: "M2.5 5.5h8v8h-8zM5 5.5V3h8.5v8H10.5",
  warn: "M8 2.6l6 10.8H2zM8 6.6v3.2M8 11.4v.3",
  open: "M2.5 2.5h4.7v11H2.5zM8.8 2.5h4.7v11H8.8z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
