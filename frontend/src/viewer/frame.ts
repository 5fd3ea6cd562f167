// One frame as the server sends it: octets and the line of X-Frame.

import type { FrameHeader } from "../api";
import { type Scale, type Stored, type Window, type WindowFunction, windowIsValid } from "./grey";
import type { NamedWindow } from "./windows";

/** window: shown at first (it means nothing for colour); named: those of the file; range: between the least and the
 *  largest value that is no padding. */
export interface Frame {
  header: FrameHeader;
  stored: Stored;
  window: Window;
  named: NamedWindow[];
  range: number;
}

/** octets: row by row, little endian. Throws where they do not fit the header. */
export function frameOf(line: string | null, octets: ArrayBuffer): Frame {
  if (!line) throw new Error("The server has sent a frame without its X-Frame header.");
  const header = JSON.parse(line) as FrameHeader;
  const values = header.rows * header.columns * header.channels;
  if (octets.byteLength !== values * (header.dtype === "int16" ? 2 : 1))
    throw new Error(`A frame of ${header.columns} x ${header.rows} has come incomplete; reload it.`);
  const stored = header.dtype === "int16" ? wide(octets) : new Uint8Array(octets);
  const named = namedWindows(header.windows);
  return { header, stored, window: firstWindow(header, named), named, range: spread(stored, header) };
}

/** What `cbmir render` shows: a window of the file, with its function, or a straight line from black to white. */
function firstWindow({ window }: FrameHeader, named: NamedWindow[]): Window {
  const [center, width] = window ?? [127.5, 255];
  const same = named.find(({ window }) => window.center === center && window.width === width);
  return same?.window ?? { center, width, function: "LINEAR_EXACT" };
}

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

function wide(octets: ArrayBuffer): Uint16Array {
  if (LITTLE_ENDIAN) return new Uint16Array(octets);
  const view = new DataView(octets);
  return Uint16Array.from({ length: octets.byteLength / 2 }, (_, i) => view.getUint16(2 * i, true));
}

export function namedWindows(windows: FrameHeader["windows"]): NamedWindow[] {
  return windows
    .map(([center, width, kind, explanation], i) => ({
      name: explanation || (windows.length > 1 ? `Of the file, ${i + 1}` : "Of the file"),
      window: { center, width, function: kind as WindowFunction },
    }))
    .filter(({ window }) => windowIsValid(window));
}

function spread(stored: Stored, { dtype, slope, padding }: Scale): number {
  const signed = dtype === "int16";
  let low = Infinity;
  let high = -Infinity;
  for (const bits of stored) {
    const value = signed ? (bits << 16) >> 16 : bits;
    if (value === padding) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return high > low ? (high - low) * Math.abs(slope) : Math.abs(slope);
}

/** Every step-th pixel of every step-th row: enough to look at while a window of a large image is dragged. */
export function thinned({ stored, header }: Frame, step: number): Frame {
  const rows = Math.ceil(header.rows / step);
  const columns = Math.ceil(header.columns / step);
  const few = new Uint16Array(rows * columns);
  for (let row = 0, to = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) few[to++] = stored[(row * header.columns + column) * step]!;
  return { header: { ...header, rows, columns }, stored: few, window: { center: 0, width: 1, function: "LINEAR" }, named: [], range: 0 };
}
