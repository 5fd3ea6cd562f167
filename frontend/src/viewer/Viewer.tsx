// The viewer: one image, or a query and a hit side by side, over everything else until it is closed.

import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Explanation, Region } from "../api";
import { lettersAct } from "../hooks";
import { Frames } from "./frames";
import type { Window } from "./grey";
import { type Command, commandOf } from "./keys";
import { strongest } from "./overlay";
import { Pane } from "./Pane";
import { addressOf, keyOf, loadFrame, useFrame, useStack } from "./stack";
import { Toolbar } from "./Toolbar";
import type { ViewerImage } from "./types";
import { around, FIT, linkedSlice, middleRegion, nudged, panned, type View, within, zoomed } from "./view";
import { dragged, presetsOf, short } from "./windows";
import "./viewer.css";

export type { ViewerImage } from "./types";

const REACH = 5;
const KEY_STEP = 8;

export interface ViewerProps {
  /** One, or the query and a hit. */
  images: [ViewerImage] | [ViewerImage, ViewerImage];
  /** Of these two, once they are known. */
  maps?: Explanation | null;
  /** Why there are no maps yet: a sentence. */
  mapsNote?: string | null;
  /** Called when the maps are first wanted; without it there are none to be had. */
  onMaps?: (() => void) | undefined;
  /** A rectangle of the image that is on show, to search by. */
  onRegion?: (region: Region, image: ViewerImage) => void;
  onFindSimilar?: (image: ViewerImage) => void;
  onClose: () => void;
}

/** index null: where the image itself is; window null: as the frame wants to be seen. */
interface Side {
  index: number | null;
  window: Window | null;
  inverted: boolean;
  view: View;
}

type Sides = [Side, Side];

const FRESH: Side = { index: null, window: null, inverted: false, view: FIT };
const BOTH_FRESH: Sides = [FRESH, FRESH];
type Which = 0 | 1;

export function Viewer(props: ViewerProps) {
  const { images, maps, mapsNote, onMaps, onRegion, onFindSimilar, onClose } = props;
  const frames = useMemo(() => new Frames(loadFrame), []);
  const shownKey = images.map(keyOf).join(" ");
  const [kept, setKept] = useState({ of: shownKey, sides: BOTH_FRESH });
  const sides = kept.of === shownKey ? kept.sides : BOTH_FRESH;
  const setSides = (next: (sides: Sides) => Side[]) =>
    setKept((old) => ({ of: shownKey, sides: next(old.of === shownKey ? old.sides : BOTH_FRESH) as Sides }));
  const [active, setActive] = useState<Which>(0);
  const [moving, setMoving] = useState(false);
  const [links, setLinks] = useState({ scroll: true, window: true });
  const [linkedAt, setLinkedAt] = useState<[number, number] | null>(null);
  const [over, setOver] = useState({ on: false, opacity: 0.7 });
  const [drawing, setDrawing] = useState(false);
  const [region, setRegion] = useState<Region | null>(null);
  const stages = useRef<(HTMLElement | null)[]>([]);

  const first = usePane(images[0], sides[0], frames);
  const second = usePane(images[1] ?? null, sides[1], frames);
  const panes = second ? [first!, second] : [first!];
  const now = panes[active] ?? first!;
  const dialog = useDialog(stages, onClose);

  useEffect(() => {
    setLinkedAt(null);
    setActive(0);
    leaveRegion();
  }, [shownKey]);

  const places = panes.map(({ address }) => address).join(" ");
  useEffect(() => {
    const each = panes.map(({ stack, index }) => around(index, stack.slices.length, REACH).map((i) => addressOf(stack.slices[i]!)));
    frames.prefetch(Array.from({ length: 2 * REACH }, (_, i) => each.flatMap((ahead) => ahead[i] ?? [])).flat());
  }, [places, first!.stack.slices.length, second?.stack.slices.length]);

  const units = panes.map(({ shown }) => shown.frame?.header.unit);
  const sameUnit = panes.length === 2 && Boolean(units[0]) && units[0] === units[1];
  const together = links.window && sameUnit;

  function change(which: Which, part: Partial<Side>, both = false) {
    setSides((old) => old.map((side, i) => (both || i === which ? { ...side, ...part } : side)));
  }
  const setWindow = (which: Which, window: Window | null, still = true) => {
    setMoving(!still);
    change(which, { window }, together);
  };
  const invert = () => change(active, { inverted: !sides[active].inverted }, together);
  const reset = () => setSides((old) => old.map(({ index }) => ({ ...FRESH, index })));

  function setIndex(which: Which, to: number) {
    const here = panes[which]!;
    const index = within(to, here.stack.slices.length);
    change(which, { index });
    const other = panes[1 - which];
    if (!other || !links.scroll) return;
    const from = linkedAt ?? panes.map(({ stack }) => stack.start);
    const count = here.stack.slices.length;
    const linked = linkedSlice(from[which]!, index, count, from[1 - which]!, other.stack.slices.length);
    change((1 - which) as Which, { index: linked });
  }

  function setLink(part: Partial<typeof links>) {
    setLinks({ ...links, ...part });
    if (part.scroll) setLinkedAt(panes.map(({ index }) => index) as [number, number]);
  }

  function showMaps(on: boolean, opacity: number) {
    setOver({ on, opacity });
    if (on) onMaps?.();
  }

  function leaveRegion() {
    setDrawing(false);
    setRegion(null);
  }
  const searchRegion = onRegion && region ? () => onRegion(region, now.image) : null;

  function obey(command: Command) {
    const frame = now.shown.frame;
    const side = sides[active];
    const stage = stages.current[active]!;
    const size = { width: stage.clientWidth, height: stage.clientHeight };
    const count = now.stack.slices.length;
    switch (command.do) {
      case "slice":
        return setIndex(active, now.index + command.by);
      case "first":
        return setIndex(active, 0);
      case "last":
        return setIndex(active, count - 1);
      case "invert":
        return invert();
      case "reset":
        return reset();
      case "similar":
        return onFindSimilar?.(now.image);
      case "maps":
        return showMaps(!over.on, over.opacity);
      case "search":
        return searchRegion?.();
      case "region":
        if (drawing) leaveRegion();
        else if (onRegion) setDrawing(true);
        return;
    }
    if (!frame) return;
    switch (command.do) {
      case "zoom":
        return change(active, { view: zoomed(side.view, command.factor, { x: size.width / 2, y: size.height / 2 }, frame.header, size) });
      case "pan":
        return change(active, { view: panned(side.view, -40 * command.dx, -40 * command.dy, frame.header, size) });
      case "width":
      case "level": {
        const by = command.by * KEY_STEP;
        if (now.window) setWindow(active, dragged(now.window, command.do === "width" ? by : 0, command.do === "level" ? by : 0, frame.range));
        return;
      }
      case "preset": {
        const preset = presetsOf(frame.header.unit)[command.number - 1];
        if (preset) setWindow(active, preset.window);
        return;
      }
      case "move": {
        const { rows, columns } = frame.header;
        const step = Math.max(1, Math.round(Math.max(rows, columns) / 64));
        setRegion(region ? nudged(region, command.dx * step, command.dy * step, command.resize, frame.header) : middleRegion(frame.header));
      }
    }
  }

  function keyDown(event: KeyboardEvent) {
    const target = event.target as HTMLElement;
    const onControl = target.closest("button, input, select");
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      return drawing ? leaveRegion() : onClose();
    }
    if (event.key.length === 1 && event.key !== " " && !lettersAct()) return;
    const command = commandOf(event, drawing);
    if (!command || (onControl && (target.matches("input, select") || event.key === " " || event.key === "Enter"))) return;
    event.preventDefault();
    event.stopPropagation();
    obey(command);
  }

  const atHome = panes.every(({ stack, index }) => stack.start === index);
  const strong = useMemo(() => maps && strongest(maps), [maps]);
  const labels = panes.length === 2 ? ["Query", "Hit"] : ["Image"];
  return (
    <dialog class="viewer" ref={dialog} aria-label={panes.length === 2 ? "Query and hit side by side" : "Viewer"} onKeyDown={keyDown}>
      <Toolbar
        title={labels[active] ?? "Image"}
        frame={now.shown.frame}
        window={now.window}
        inverted={sides[active].inverted}
        drawing={onRegion ? drawing : null}
        maps={onMaps && atHome && panes.length === 2 ? { ...over, similarity: maps?.similarity ?? null } : null}
        links={panes.length === 2 ? { scroll: links.scroll, window: sameUnit ? links.window : null } : null}
        onWindow={(window) => setWindow(active, window)}
        onInvert={invert}
        onZoom={(factor) => obey({ do: "zoom", factor })}
        onReset={reset}
        onDrawing={() => obey({ do: "region" })}
        onMaps={showMaps}
        onLinks={setLink}
        onSimilar={onFindSimilar ? () => onFindSimilar(now.image) : null}
        onClose={onClose}
      />
      <div class="panes">
        {drawing && !region && <p class="hint">Drag over the image, click two corners, or press an arrow key. Esc leaves.</p>}
      {!drawing && over.on && mapsNote && <p class="hint" role="status">{mapsNote}</p>}
        {panes.map((pane, i) => {
          const which = i as Which;
          const side = maps && (which ? maps.hit : maps.query);
          return (
            <Pane
              key={which}
              label={labels[which]!}
              name={pane.image.kind === "record" ? pane.image.id.slice(0, 12) : `upload, frame ${pane.image.frame}`}
              shown={pane.shown}
              window={pane.window}
              inverted={sides[which].inverted}
              moving={moving}
              view={sides[which].view}
              index={pane.index}
              count={pane.stack.slices.length}
              note={pane.stack.problem}
              map={side && atHome && over.on && panes.length === 2 ? { side, strong: strong!, opacity: over.opacity } : null}
              drawing={drawing}
              region={active === which ? region : null}
              active={active === which && panes.length === 2}
              stageRef={(stage) => (stages.current[which] = stage)}
              onActive={() => {
                if (which !== active) setRegion(null);
                setActive(which);
              }}
              onWindow={(window, dragging) => setWindow(which, window, !dragging)}
              onView={(view) => change(which, { view })}
              onIndex={(index) => setIndex(which, index)}
              onRegion={setRegion}
              onSearchRegion={searchRegion}
            />
          );
        })}
      </div>
      <Told text={panes.map(({ index, stack, window }, i) => spoken(labels[i]!, index, stack.slices.length, window)).join(". ")} />
    </dialog>
  );
}

function spoken(label: string, index: number, count: number, window: Window | null): string {
  const slice = count > 1 ? `slice ${index + 1} of ${count}` : "";
  const grey = window ? `window ${short(window.width)}, level ${short(window.center)}` : "";
  return `${label}: ${[slice, grey].filter(Boolean).join(", ")}`;
}

/** What has changed, for screen readers, once it has come to rest. */
function Told({ text }: { text: string }) {
  const [told, setTold] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setTold(text), 500);
    return () => clearTimeout(timer);
  }, [text]);
  return (
    <p class="visually-hidden" role="status">
      {told}
    </p>
  );
}

function usePane(image: ViewerImage | null, side: Side, frames: Frames) {
  const stack = useStack(image);
  const index = stack ? within(side.index ?? stack.start, stack.slices.length) : 0;
  const slice = stack?.slices[index] ?? image;
  const address = slice && stack?.known ? addressOf(slice) : null;
  const shown = useFrame(image ? keyOf(image) : "", address, frames);
  if (!stack || !slice) return null;
  const { frame } = shown;
  const window = frame && frame.header.channels === 1 ? (side.window ?? frame.window) : null;
  return { stack, index, image: slice, address, shown, window };
}

/** Opens over the page, takes the focus, gives it back. Whatever else closes it (a second Esc in some browsers) counts. */
function useDialog(stages: { current: (HTMLElement | null)[] }, onClose: () => void) {
  const dialog = useRef<HTMLDialogElement>(null);
  const closing = useRef(onClose);
  closing.current = onClose;
  useLayoutEffect(() => {
    const element = dialog.current!;
    const close = () => closing.current();
    element.showModal();
    stages.current[0]?.focus();
    element.addEventListener("close", close);
    return () => {
      element.removeEventListener("close", close);
      element.close();
    };
  }, []);
  return dialog;
}
