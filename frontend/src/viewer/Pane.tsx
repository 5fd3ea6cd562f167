// One image on its black stage: drawn, with its corners, its slices and whatever pointers do to it.

import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { ExplainedSide, Region } from "../api";
import type { Frame } from "./frame";
import { type Pinch, pinchOf, type Tool, toolOf, wheelSteps, zoomOfDrag, zoomOfWheel } from "./gestures";
import type { Window } from "./grey";
import { useSize } from "./size";
import type { Shown } from "./stack";
import { drawStage, overlayCanvas, Picture } from "./stage";
import { type Placed, type Point, panned, placed, regionBetween, scaleBar, type Size, toImage, type View, zoomed } from "./view";
import { dragged, short } from "./windows";

const LONGEST_BAR = 140;
const A_CLICK = 4;

export interface PaneProps {
  label: string;
  name: string;
  shown: Shown;
  window: Window | null;
  inverted: boolean;
  /** Whether a window is being dragged, so that speed counts more than every pixel. */
  moving: boolean;
  view: View;
  index: number;
  count: number;
  note: string | null;
  map: { side: ExplainedSide; strong: number; opacity: number } | null;
  drawing: boolean;
  region: Region | null;
  active: boolean;
  stageRef: (stage: HTMLElement | null) => void;
  onActive: () => void;
  onWindow: (window: Window, moving: boolean) => void;
  onView: (view: View) => void;
  onIndex: (index: number) => void;
  onRegion: (region: Region | null) => void;
  onSearchRegion: (() => void) | null;
}

interface Drag {
  tool: Tool;
  from: Point;
  window: Window;
  view: View;
}

export function Pane(props: PaneProps) {
  const { label, name, shown, window, view, index, count, region } = props;
  const { frame } = shown;
  const stage = useRef<HTMLDivElement>(null);
  const size = useSize(stage);
  const at = frame && size ? placed(view, frame.header, size) : null;
  const canvas = useDrawn(props, size, at);
  const pointers = usePointers(props, stage, size, at);
  return (
    <section class="pane" data-active={props.active} aria-label={label}>
      <div
        class="stage"
        ref={(element) => {
          stage.current = element;
          props.stageRef(element);
        }}
        role="application"
        aria-roledescription="image viewer"
        aria-label={`${label} ${name}: ${count > 1 ? `slice ${index + 1} of ${count}, ` : ""}${described(frame, window)}`}
        aria-keyshortcuts="ArrowUp ArrowDown Space i f r"
        tabIndex={0}
        data-drawing={props.drawing}
        onFocus={props.onActive}
        {...pointers}
      >
        <canvas ref={canvas} hidden={!frame} aria-hidden="true" />
        <Corners {...props} at={at} />
        {region && at && <RegionBox {...props} region={region} at={at} size={size!} />}
        {shown.loading && <p class="message">Loading…</p>}
      </div>
      {shown.problem && (
        <div class="message problem" role="alert">
          <p>{shown.problem}</p>
          <button type="button" onClick={shown.again}>
            Try again
          </button>
        </div>
      )}
      {count > 1 && <Slices {...props} />}
    </section>
  );
}

function described(frame: Frame | null, window: Window | null): string {
  if (!frame) return "not loaded yet";
  if (!window) return "colour";
  return `window ${short(window.width)}, level ${short(window.center)}`;
}

/** The canvas with everything drawn on it, before the screen is painted. */
function useDrawn({ shown: { frame }, window, inverted, moving, map }: PaneProps, size: Size | null, at: Placed | null) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const picture = useMemo(() => new Picture(), []);
  const laid = useMemo(() => map && overlayCanvas(map.side.map, map.strong), [map?.side, map?.strong]);
  useLayoutEffect(() => {
    if (frame) picture.paint(frame, { window: window ?? frame.window, inverted, moving });
  }, [frame, window, inverted, moving]);
  useLayoutEffect(() => {
    if (!frame || !size || !at || !canvas.current) return;
    const over = map && laid ? { canvas: laid, side: map.side, opacity: map.opacity } : null;
    drawStage(canvas.current, size, devicePixelRatio, picture, frame, at, over);
  });
  return canvas;
}

function usePointers(props: PaneProps, stage: { current: HTMLElement | null }, size: Size | null, at: Placed | null) {
  const touching = useRef(new Map<number, Point>());
  const drag = useRef<Drag | null>(null);
  const pinch = useRef<{ from: Pinch; view: View } | null>(null);
  const corner = useRef<Point | null>(null);
  const rest = useRef(0);
  useEffect(() => {
    if (!props.drawing) corner.current = null;
  }, [props.drawing]);
  const { frame } = props.shown;
  if (!frame || !size || !at) return {};
  const shape = frame.header;
  const place = (event: MouseEvent): Point => {
    const box = stage.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const drawTo = (point: Point) => props.onRegion(corner.current && regionBetween(corner.current, toImage(point, at), shape));

  function down(event: PointerEvent) {
    if ((event.target as Element).closest("button")) return;
    const point = place(event);
    props.onActive();
    stage.current!.setPointerCapture(event.pointerId);
    touching.current.set(event.pointerId, point);
    if (touching.current.size === 2) {
      const [a, b] = [...touching.current.values()] as [Point, Point];
      pinch.current = { from: pinchOf(a, b), view: props.view };
      drag.current = null;
      return;
    }
    const tool = toolOf(event.button, event.shiftKey, props.drawing);
    if (!tool) return;
    if (event.button === 1) event.preventDefault(); // or the page begins to scroll by itself
    drag.current = { tool, from: point, window: props.window ?? frame!.window, view: props.view };
    if (tool === "region" && !corner.current) corner.current = toImage(point, at!);
  }

  function move(event: PointerEvent) {
    const point = place(event);
    if (touching.current.has(event.pointerId)) touching.current.set(event.pointerId, point);
    if (pinch.current && touching.current.size === 2) return pinched(pinch.current);
    if (!drag.current) return corner.current && drawTo(point);
    const { tool, from, window, view } = drag.current;
    const [dx, dy] = [point.x - from.x, point.y - from.y];
    if (tool === "window" && props.window) props.onWindow(dragged(window, dx, dy, frame!.range), true);
    if (tool === "pan") props.onView(panned(view, dx, dy, shape, size!));
    if (tool === "zoom") props.onView(zoomed(view, zoomOfDrag(dy), from, shape, size!));
    if (tool === "region") drawTo(point);
  }

  function pinched({ from, view }: { from: Pinch; view: View }) {
    const [a, b] = [...touching.current.values()] as [Point, Point];
    const { middle, distance } = pinchOf(a, b);
    const larger = zoomed(view, distance / from.distance, from.middle, shape, size!);
    props.onView(panned(larger, middle.x - from.middle.x, middle.y - from.middle.y, shape, size!));
  }

  function up(event: PointerEvent) {
    touching.current.delete(event.pointerId);
    const ended = drag.current;
    drag.current = null;
    if (touching.current.size < 2) pinch.current = null;
    if (!ended) return;
    const point = place(event);
    const clicked = Math.hypot(point.x - ended.from.x, point.y - ended.from.y) < A_CLICK;
    if (ended.tool === "window" && props.window && !clicked) props.onWindow(props.window, false);
    if (ended.tool === "region" && (!clicked || props.region)) corner.current = null; // a click waits for its second
  }

  function wheel(event: WheelEvent) {
    event.preventDefault();
    if (event.ctrlKey || props.count === 1)
      return props.onView(zoomed(props.view, zoomOfWheel(event.deltaY), place(event), shape, size!));
    const { steps, rest: left } = wheelSteps(rest.current, event);
    rest.current = left;
    if (steps) props.onIndex(props.index + steps);
  }

  return {
    onPointerDown: down,
    onPointerMove: move,
    onPointerUp: up,
    onPointerCancel: up,
    onWheel: wheel,
    onDblClick: (event: MouseEvent) => !props.drawing && props.onView(zoomed(props.view, 2, place(event), shape, size)),
    onContextMenu: (event: MouseEvent) => event.preventDefault(),
  };
}

/** What is written over the image. */
function Corners({ label, name, shown: { frame }, window, inverted, index, count, note, at }: PaneProps & { at: Placed | null }) {
  if (!frame || !at) return null;
  const { rows, columns, unit, modality, pixel_spacing_mm } = frame.header;
  const bar = pixel_spacing_mm && scaleBar(at.scaleX, pixel_spacing_mm[1], LONGEST_BAR);
  return (
    <div class="corners" aria-hidden="true">
      <p class="nw">
        {label}
        <br />
        {name}
      </p>
      <p class="ne">Research use only. Not for diagnosis.</p>
      <p class="sw">
        {note && (
          <>
            {note}
            <br />
          </>
        )}
        {window ? `W ${short(window.width)}  L ${short(window.center)}${unit ? ` ${unit}` : ""}` : "colour"}
        {inverted && "  inverted"}
        <br />
        Zoom {short(at.scaleX * 100)} %
      </p>
      <p class="se">
        {modality} {columns} × {rows}
        <br />
        {index + 1} / {count}
      </p>
      {bar && (
        <p class="scale" style={{ width: `${bar.pixels}px` }}>
          {short(bar.mm)} mm
        </p>
      )}
    </div>
  );
}

function RegionBox({ region, at, size, onRegion, onSearchRegion }: PaneProps & { region: Region; at: Placed; size: Size }) {
  const [x, y, w, h] = region;
  const [left, top, width, height] = [at.left + x * at.scaleX, at.top + y * at.scaleY, w * at.scaleX, h * at.scaleY];
  const inside = (value: number, most: number) => Math.max(4, Math.min(value, most));
  return (
    <>
      <div class="region" style={{ left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` }} />
      <div class="region-actions" style={{ left: `${inside(left, size.width - 220)}px`, top: `${inside(top + height + 4, size.height - 44)}px` }}>
        {onSearchRegion && (
          <button type="button" class="strong" onClick={onSearchRegion}>
            Search this region
          </button>
        )}
        <button type="button" onClick={() => onRegion(null)}>
          Clear
        </button>
      </div>
    </>
  );
}

function Slices({ label, index, count, onIndex }: PaneProps) {
  return (
    <div class="slices">
      <button type="button" aria-label={`${label}: previous slice`} disabled={index === 0} onClick={() => onIndex(index - 1)}>
        ‹
      </button>
      <input
        type="range"
        aria-label={`${label}: slice`}
        aria-valuetext={`${index + 1} of ${count}`}
        min={1}
        max={count}
        value={index + 1}
        onInput={(event) => onIndex(event.currentTarget.valueAsNumber - 1)}
      />
      <button type="button" aria-label={`${label}: next slice`} disabled={index === count - 1} onClick={() => onIndex(index + 1)}>
        ›
      </button>
    </div>
  );
}
