// From stored values to grey levels: what windowing.py and display.py do, once per possible value instead of per pixel.
// This file imports nothing, so that a test can run it beside `cbmir render`.

export type WindowFunction = "LINEAR" | "LINEAR_EXACT" | "SIGMOID";

/** center, width: in modality values (CT: HU). Source: DICOM PS3.3 C.11.2.1.2, C.11.2.1.3. */
export interface Window {
  center: number;
  width: number;
  function: WindowFunction;
}

/** How stored values become modality values, and what else changes their grey. */
export interface Scale {
  dtype: "int16" | "uint8";
  slope: number;
  intercept: number;
  padding: number | null;
  monochrome1: boolean;
}

export function windowIsValid({ center, width, function: kind }: Window): boolean {
  if (!["LINEAR", "LINEAR_EXACT", "SIGMOID"].includes(kind)) return false;
  return Number.isFinite(center) && Number.isFinite(width) && (kind === "LINEAR" ? width >= 1 : width > 0);
}

/** What makes display values, 0 (black) to 1, of modality values. */
export function curve({ center, width, function: kind }: Window): (value: number) => number {
  if (kind === "SIGMOID") return (value) => 1 / (1 + Math.exp((-4 * (value - center)) / width));
  if (kind === "LINEAR") {
    center -= 0.5;
    width -= 1;
    if (width === 0) return (value) => (value > center ? 1 : 0);
  }
  const black = center - width / 2;
  return (value) => Math.min(1, Math.max(0, (value - black) / width));
}

/** A grey level, 0 to 255, for each of the values that the bits of a pixel can be, read as an unsigned number.
 *  MONOCHROME1 is inverted last, then padding is black (PS3.3 C.7.6.3.1.2, C.7.5.1.1.2); halves are rounded up.
 *  inverted: the reader wants white for black; padding stays black. */
export function greyTable(scale: Scale, window: Window, inverted: boolean, table?: Uint8Array): Uint8Array {
  const signed = scale.dtype === "int16";
  const size = signed ? 65536 : 256;
  const greys = table?.length === size ? table : new Uint8Array(size);
  const show = curve(window);
  const flip = scale.monochrome1 !== inverted;
  for (let bits = 0; bits < size; bits++) {
    const stored = signed ? (bits << 16) >> 16 : bits;
    const display = show(stored * scale.slope + scale.intercept);
    greys[bits] = Math.floor((flip ? 1 - display : display) * 255 + 0.5);
  }
  if (scale.padding !== null) greys[scale.padding & (size - 1)] = 0;
  return greys;
}

/** Stored values as unsigned numbers, to look up with. */
export type Stored = Uint16Array | Uint8Array;

/** Grey pixels into the memory of an ImageData, seen as 32-bit numbers. colours: of every grey level. */
export function paintGrey(stored: Stored, greys: Uint8Array, colours: Uint32Array, into: Uint32Array): void {
  for (let i = 0; i < into.length; i++) into[i] = colours[greys[stored[i]!]!]!;
}

/** RGB triples into the same; a window means nothing for colour. */
export function paintColour(stored: Stored, inverted: boolean, into: Uint8ClampedArray): void {
  const flip = inverted ? 255 : 0;
  for (let from = 0, to = 0; to < into.length; to += 4) {
    into[to] = stored[from++]! ^ flip;
    into[to + 1] = stored[from++]! ^ flip;
    into[to + 2] = stored[from++]! ^ flip;
    into[to + 3] = 255;
  }
}

/** The 256 opaque greys as an ImageData of this machine holds them. */
export function opaqueGreys(): Uint32Array {
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let grey = 0; grey < 256; grey++) bytes.set([grey, grey, grey, 255], grey * 4);
  return new Uint32Array(bytes.buffer);
}
