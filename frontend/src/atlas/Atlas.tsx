// The similarity map: what is alike lies close together. Wander with the pointer or the arrow keys, open what you see.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import * as api from "../api";
import { type Pinch, pinchOf, zoomOfWheel } from "../viewer/gestures";
import { useSize } from "../viewer/size";
import type { Point, Size } from "../viewer/view";
import {
  type Bounds,
  fitted,
  lookOf,
  nearest,
  panned,
  type Points,
  radiusOf,
  seen,
  showing,
  toStage,
  towards,
  traced,
  type View,
  zoomed,
} from "./points";
import "./atlas.css";

const MOST_POINTS = 5000;
const REST_MS = 180;
const REACH = 14;
const A_CLICK = 4;

const ARROWS: Record<string, [dx: number, dy: number]> = {
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
};

export interface AtlasProps {
  onOpen: (id: string) => void;
}

export function Atlas({ onOpen }: AtlasProps) {
  const stage = useRef<HTMLDivElement>(null);
  const size = useSize(stage);
  const [moved, setView] = useState<View | null>(null); // null: everything
  const { map, bounds, problem, again } = useMap(moved, size);
  const [hidden, setHidden] = useState<Set<number>>(new Set());
  const [chosen, setChosen] = useState<string | null>(null);
  const dark = useDark();
  const whole = size && bounds && fitted(bounds, size);
  const view = moved ?? whole;
  const points = map?.points;
  const at = useMemo(() => (points && chosen ? points.id.indexOf(chosen) : -1), [points, chosen]);
  const shownAt = at >= 0 && !hidden.has(points!.class[at]!) ? at : -1;
  const canvas = useDrawn(size, view, points, hidden, shownAt, dark);
  const handlers = usePointers({ stage, size, view, whole, points, hidden, chosen, setView, setChosen, onOpen });

  function keyDown(event: KeyboardEvent) {
    if (!points || !view || !whole || !size || event.ctrlKey || event.metaKey || event.altKey) return;
    const middle: [number, number] = [size.width / 2, size.height / 2];
    const arrow = ARROWS[event.key];
    if (arrow) choose(shownAt < 0 ? nearest(points, middle, Infinity, view, size, hidden) : towards(points, shownAt, ...arrow, hidden));
    else if (event.key === "+" || event.key === "=") setView(zoomed(view, 1.5, focusOr(middle), size, whole));
    else if (event.key === "-") setView(zoomed(view, 1 / 1.5, focusOr(middle), size, whole));
    else if (event.key === " ") setView(null);
    else if (event.key === "Enter" && shownAt >= 0) onOpen(points.id[shownAt]!);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
  const focusOr = (middle: [number, number]) => (shownAt < 0 ? middle : toStage(view!, points!.x[shownAt]!, points!.y[shownAt]!, size!));

  function choose(index: number) {
    if (index < 0) return;
    setChosen(points!.id[index]!);
    const next = showing(view!, points!.x[index]!, points!.y[index]!, size!);
    if (next.x !== view!.x || next.y !== view!.y) setView(next);
  }

  const zoomBy = (factor: number) => view && whole && size && setView(zoomed(view, factor, [size.width / 2, size.height / 2], size, whole));
  const className = shownAt < 0 ? "" : map!.classes[points!.class[shownAt]!]!;
  return (
    <section class="atlas" aria-label="Similarity map">
      <div class="atlas-main">
        <div
          class="atlas-stage"
          ref={stage}
          role="application"
          aria-roledescription="map"
          aria-label={
            map
              ? `Similarity map of ${map.n} images. Arrow keys go to the nearest image, Enter opens it, plus and minus zoom, Space shows all.`
              : "Similarity map"
          }
          aria-keyshortcuts="ArrowUp ArrowDown ArrowLeft ArrowRight Enter + - Space"
          tabIndex={0}
          onKeyDown={keyDown}
          {...handlers}
        >
          <canvas ref={canvas} aria-hidden="true" />
          {shownAt >= 0 && view && size && <Card id={points!.id[shownAt]!} name={className} at={toStage(view, points!.x[shownAt]!, points!.y[shownAt]!, size)} size={size} />}
          {!map && !problem && <p class="atlas-state">Loading the map…</p>}
          {map?.n === 0 && <p class="atlas-state">The gallery has no images yet. Index a folder, then the map shows them.</p>}
        </div>
        {problem && (
          <div class="atlas-state" role="alert">
            <p>{problem}</p>
            <button type="button" onClick={again}>
              Try again
            </button>
          </div>
        )}
        <div class="atlas-tools">
          <button type="button" aria-label="Zoom out" title="Zoom out (−)" onClick={() => zoomBy(1 / 1.5)}>
            −
          </button>
          <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => zoomBy(1.5)}>
            +
          </button>
          <button type="button" title="Show all (Space)" disabled={!moved} onClick={() => setView(null)}>
            Reset
          </button>
          {map && <span>{map.shown < map.n ? `${map.shown} of ${map.n} images here; zoom in for more` : `${map.n} images`}</span>}
        </div>
      </div>
      {map && map.classes.length > 0 && <Legend classes={map.classes} hidden={hidden} dark={dark} onHidden={setHidden} />}
      <p class="visually-hidden" role="status">
        {shownAt >= 0 && `${className || "no class"}, image ${points!.id[shownAt]!.slice(0, 8)}`}
      </p>
    </section>
  );
}

/** The points of what is seen. Where all fit into one answer nothing more is asked. */
function useMap(view: View | null, size: Size | null) {
  const [whole, setWhole] = useState<api.AtlasPoints | null>(null);
  const [part, setPart] = useState<api.AtlasPoints | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const leaving = new AbortController();
    api.atlas(null, MOST_POINTS, leaving.signal).then(setWhole, (error: Error) => leaving.signal.aborted || setProblem(error.message));
    return () => leaving.abort();
  }, [attempt]);
  useEffect(() => {
    if (!view || !size) return setPart(null);
    if (!whole || whole.shown >= whole.n) return;
    const leaving = new AbortController();
    const timer = setTimeout(() => {
      const [x0, y0, x1, y1] = seen(view, { width: 1.3 * size.width, height: 1.3 * size.height });
      api
        .atlas({ x0, y0, x1, y1 }, MOST_POINTS, leaving.signal)
        .then(setPart, (error: Error) => leaving.signal.aborted || setProblem(error.message));
    }, REST_MS);
    return () => {
      clearTimeout(timer);
      leaving.abort();
    };
  }, [view, size, whole]);
  function again() {
    setProblem(null);
    setAttempt(attempt + 1);
  }
  return { map: part ?? whole, bounds: whole && (whole.bounds as Bounds), problem, again };
}

/** Whether the page is dark now. */
function useDark(): boolean {
  const look = () => getComputedStyle(document.documentElement).colorScheme !== "light";
  const [dark, setDark] = useState(look);
  useEffect(() => {
    const observer = new MutationObserver(() => setDark(look()));
    observer.observe(document.documentElement, { attributes: true });
    return () => observer.disconnect();
  }, []);
  return dark;
}

function useDrawn(size: Size | null, view: View | null, points: Points | undefined, hidden: Set<number>, chosen: number, dark: boolean) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    if (!size || !view || !points) return;
    const element = canvas.current!;
    element.width = Math.round(size.width * devicePixelRatio);
    element.height = Math.round(size.height * devicePixelRatio);
    const context = element.getContext("2d")!;
    context.scale(devicePixelRatio, devicePixelRatio);
    const radius = radiusOf(points.id.length);
    const paths = new Map<number, Path2D>();
    points.id.forEach((_, i) => {
      const group = points.class[i]!;
      if (hidden.has(group)) return;
      const [x, y] = toStage(view, points.x[i]!, points.y[i]!, size);
      if (x < -radius || y < -radius || x > size.width + radius || y > size.height + radius) return;
      let path = paths.get(group);
      if (!path) paths.set(group, (path = new Path2D()));
      traced(path, lookOf(group, dark).shape, x, y, radius);
    });
    for (const [group, path] of paths) {
      context.fillStyle = lookOf(group, dark).colour;
      context.fill(path);
    }
    if (chosen >= 0) {
      const [x, y] = toStage(view, points.x[chosen]!, points.y[chosen]!, size);
      context.strokeStyle = getComputedStyle(element).color;
      context.lineWidth = 2;
      context.beginPath();
      context.arc(x, y, radius + 4, 0, 2 * Math.PI);
      context.stroke();
    }
  }, [size, view?.x, view?.y, view?.scale, points, hidden, chosen, dark]);
  return canvas;
}

interface PointerProps {
  stage: { current: HTMLElement | null };
  size: Size | null;
  view: View | null;
  whole: View | null;
  points: Points | undefined;
  hidden: Set<number>;
  chosen: string | null;
  setView: (view: View) => void;
  setChosen: (id: string | null) => void;
  onOpen: (id: string) => void;
}

function usePointers({ stage, size, view, whole, points, hidden, chosen, setView, setChosen, onOpen }: PointerProps) {
  const touching = useRef(new Map<number, Point>());
  const drag = useRef<{ from: Point; view: View } | null>(null);
  const pinch = useRef<{ from: Pinch; view: View } | null>(null);
  if (!size || !view || !whole || !points) return {};
  const place = (event: MouseEvent): Point => {
    const box = stage.current!.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  const idAt = ({ x, y }: Point) => points.id[nearest(points, [x, y], REACH, view, size, hidden)] ?? null;

  function down(event: PointerEvent) {
    if (event.button !== 0) return;
    stage.current!.setPointerCapture(event.pointerId);
    touching.current.set(event.pointerId, place(event));
    const [a, b] = [...touching.current.values()];
    pinch.current = a && b ? { from: pinchOf(a, b), view: view! } : null;
    drag.current = b ? null : { from: place(event), view: view! };
  }

  function move(event: PointerEvent) {
    const point = place(event);
    if (touching.current.has(event.pointerId)) touching.current.set(event.pointerId, point);
    const [a, b] = [...touching.current.values()];
    if (pinch.current && a && b) {
      const { from, view } = pinch.current;
      const { middle, distance } = pinchOf(a, b);
      const larger = zoomed(view, distance / from.distance, [from.middle.x, from.middle.y], size!, whole!);
      return setView(panned(larger, middle.x - from.middle.x, middle.y - from.middle.y));
    }
    if (!drag.current) return event.pointerType === "mouse" && setChosen(idAt(point));
    const [dx, dy] = [point.x - drag.current.from.x, point.y - drag.current.from.y];
    if (Math.hypot(dx, dy) >= A_CLICK) setView(panned(drag.current.view, dx, dy));
  }

  function up(event: PointerEvent) {
    touching.current.delete(event.pointerId);
    const ended = drag.current;
    drag.current = pinch.current = null;
    const point = place(event);
    if (!ended || event.type === "pointercancel" || Math.hypot(point.x - ended.from.x, point.y - ended.from.y) >= A_CLICK) return;
    const id = idAt(point);
    if (id && (event.pointerType === "mouse" || id === chosen)) onOpen(id);
    else setChosen(id); // a finger hides what it is over: the first tap shows, the second opens
  }

  return {
    onPointerDown: down,
    onPointerMove: move,
    onPointerUp: up,
    onPointerCancel: up,
    onPointerLeave: (event: PointerEvent) => event.pointerType === "mouse" && !drag.current && setChosen(null),
    onWheel: (event: WheelEvent) => {
      const pageScrolls = document.documentElement.scrollHeight > innerHeight;
      if (pageScrolls && !event.ctrlKey && document.activeElement !== stage.current) return; // the wheel is the page's
      event.preventDefault();
      const { x, y } = place(event);
      setView(zoomed(view, zoomOfWheel(event.deltaY), [x, y], size, whole));
    },
  };
}

const CARD = { width: 140, height: 176, gap: 14 };

function Card({ id, name, at: [x, y], size }: { id: string; name: string; at: [number, number]; size: Size }) {
  const left = x + CARD.gap + CARD.width > size.width ? x - CARD.gap - CARD.width : x + CARD.gap;
  const top = Math.max(0, Math.min(y - CARD.height / 2, size.height - CARD.height));
  return (
    <div class="atlas-card" data-id={id} style={{ transform: `translate(${left}px, ${top}px)`, width: `${CARD.width}px` }}>
      <img src={api.thumbnailOf(id, null, 128)} alt="" width={128} height={128} />
      <strong>{name || "no class"}</strong>
      <span>{id.slice(0, 12)}</span>
    </div>
  );
}

interface LegendProps {
  classes: string[];
  hidden: Set<number>;
  dark: boolean;
  onHidden: (hidden: Set<number>) => void;
}

function Legend({ classes, hidden, dark, onHidden }: LegendProps) {
  const toggle = (group: number) => {
    const next = new Set(hidden);
    if (!next.delete(group)) next.add(group);
    onHidden(next);
  };
  return (
    <div class="atlas-legend" role="group" aria-label="Classes that are shown">
      <span class="atlas-all">
        <button type="button" disabled={hidden.size === 0} onClick={() => onHidden(new Set())}>
          All
        </button>
        <button type="button" disabled={hidden.size === classes.length} onClick={() => onHidden(new Set(classes.keys()))}>
          None
        </button>
      </span>
      <ul>
        {classes.map((name, group) => (
          <li key={name}>
            <button type="button" aria-pressed={!hidden.has(group)} onClick={() => toggle(group)}>
              <Mark group={group} dark={dark} />
              {name || "no class"}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Mark({ group, dark }: { group: number; dark: boolean }) {
  const { colour, shape } = lookOf(group, dark);
  return (
    <svg width="12" height="12" viewBox="-6 -6 12 12" fill={colour} aria-hidden="true">
      {shape === "circle" && <circle r="4.5" />}
      {shape === "square" && <rect x="-4" y="-4" width="8" height="8" />}
      {shape === "triangle" && <path d="M0-5 5 4H-5z" />}
      {shape === "diamond" && <path d="M0-5.6 5.6 0 0 5.6-5.6 0z" />}
    </svg>
  );
}
