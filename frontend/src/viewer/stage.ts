// An image drawn: its pixels with their window once, then placed on the stage as often as it moves.

import type { ExplainedSide } from "../api";
import { type Frame, thinned } from "./frame";
import { greyTable, opaqueGreys, paintColour, paintGrey, type Window } from "./grey";
import { overlayPixels } from "./overlay";
import type { Placed, Size } from "./view";

/** So many pixels get a new window between two pictures of the screen; larger frames are thinned while one is dragged. */
const QUICK_PIXELS = 1_500_000;
/** From so many screen pixels for one of the image on, pixels are shown as squares. */
const SQUARES = 8;

const colours = opaqueGreys();

export interface Look {
  window: Window;
  inverted: boolean;
  /** Whether it will change again at once. */
  moving: boolean;
}

/** A canvas that holds one frame as it looks under a window. Its memory is used again while the size stays. */
export class Picture {
  readonly canvas = document.createElement("canvas");
  readonly #context = this.canvas.getContext("2d")!;
  #image: ImageData | null = null;
  #greys: Uint8Array | undefined;
  #few: { of: Frame; frame: Frame } | null = null;
  #halves: HTMLCanvasElement[] = [];

  paint(frame: Frame, { window, inverted, moving }: Look): void {
    const shown = moving ? this.#quick(frame) : frame;
    const { rows, columns, channels } = shown.header;
    if (this.#image?.width !== columns || this.#image.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.#image = this.#context.createImageData(columns, rows);
    }
    const { data } = this.#image;
    if (channels === 3) paintColour(shown.stored, inverted, data);
    else {
      this.#greys = greyTable(shown.header, window, inverted, this.#greys);
      paintGrey(shown.stored, this.#greys, colours, new Uint32Array(data.buffer));
    }
    this.#context.putImageData(this.#image, 0, 0);
    this.#halves = [];
  }

  /** The picture halved as often as a part of its size allows, averaging: a large one moves fast, and without moiré. */
  shrunk(part: number): HTMLCanvasElement {
    let small = this.canvas;
    for (let level = 0; part <= 0.5 && small.width > 1 && small.height > 1; level++, part *= 2)
      small = this.#halves[level] ??= half(small);
    return small;
  }

  #quick(frame: Frame): Frame {
    const step = Math.ceil(Math.sqrt((frame.header.rows * frame.header.columns) / QUICK_PIXELS));
    if (step === 1 || frame.header.channels === 3) return frame;
    if (this.#few?.of !== frame) this.#few = { of: frame, frame: thinned(frame, step) };
    return this.#few.frame;
  }
}

function half(large: HTMLCanvasElement): HTMLCanvasElement {
  const small = document.createElement("canvas");
  small.width = Math.ceil(large.width / 2);
  small.height = Math.ceil(large.height / 2);
  const context = small.getContext("2d")!;
  context.imageSmoothingQuality = "low"; // between four pixels, in the middle of which each new one lies
  context.drawImage(large, 0, 0, small.width, small.height);
  return small;
}

/** A map as a canvas of its own. */
export function overlayCanvas(map: number[][], strong: number): HTMLCanvasElement {
  const { width, height, pixels } = overlayPixels(map, strong);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(width, height);
  image.data.set(pixels);
  context.putImageData(image, 0, 0);
  return canvas;
}

export interface Laid {
  canvas: HTMLCanvasElement;
  side: ExplainedSide;
  opacity: number;
}

/** Everything on the stage. density: screen pixels per CSS pixel; size: of the stage in CSS pixels; frame: gives the
 *  full size of the picture, which may be thinned. */
export function drawStage(stage: HTMLCanvasElement, size: Size, density: number, picture: Picture, frame: Frame, at: Placed, laid: Laid | null): void {
  const [width, height] = [Math.round(size.width * density), Math.round(size.height * density)];
  if (stage.width !== width) stage.width = width;
  if (stage.height !== height) stage.height = height;
  const context = stage.getContext("2d", { alpha: false })!;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalAlpha = 1;
  context.fillRect(0, 0, width, height);
  context.setTransform(at.scaleX * density, 0, 0, at.scaleY * density, at.left * density, at.top * density);
  context.imageSmoothingEnabled = at.scaleX * density < SQUARES;
  context.imageSmoothingQuality = "low";
  const { rows, columns } = frame.header;
  const part = (Math.max(at.scaleX, at.scaleY) * density * columns) / picture.canvas.width;
  context.drawImage(picture.shrunk(part), 0, 0, columns, rows);
  if (laid) drawOver(context, laid, rows, columns);
}

function drawOver(context: CanvasRenderingContext2D, { canvas, side, opacity }: Laid, rows: number, columns: number): void {
  const [across, down] = [columns / side.columns, rows / side.rows];
  const [left, top, right, bottom] = side.box;
  context.save();
  context.beginPath();
  context.rect(0, 0, columns, rows);
  context.clip();
  context.globalAlpha = opacity;
  context.imageSmoothingEnabled = true;
  context.drawImage(canvas, left * across, top * down, (right - left) * across, (bottom - top) * down);
  context.restore();
}
