// The tools of the viewer, for the image that was touched last.

import type { ComponentChildren } from "preact";
import type { Frame } from "./frame";
import type { Window } from "./grey";
import { type NamedWindow, presetsOf, short } from "./windows";

/** null for what cannot be done now: its control is left out. */
export interface ToolbarProps {
  title: string;
  frame: Frame | null;
  window: Window | null;
  inverted: boolean;
  drawing: boolean | null;
  maps: { on: boolean; opacity: number; similarity: number | null } | null;
  links: { scroll: boolean; window: boolean | null } | null;
  onWindow: (window: Window) => void;
  onInvert: () => void;
  onZoom: (factor: number) => void;
  onReset: () => void;
  onDrawing: () => void;
  onMaps: (on: boolean, opacity: number) => void;
  onLinks: (links: { scroll?: boolean; window?: boolean }) => void;
  onSimilar: (() => void) | null;
  onClose: () => void;
}

export function Toolbar(props: ToolbarProps) {
  const { title, frame, window, inverted, drawing, maps, links, onZoom } = props;
  return (
    <div class="toolbar" role="group" aria-label={`Tools for ${title}`}>
      {frame && window && <WindowFields key={title} frame={frame} window={window} onWindow={props.onWindow} />}
      <Toggle on={inverted} onClick={props.onInvert} hint="i">
        Invert
      </Toggle>
      <span class="group">
        <button type="button" aria-label="Zoom out" title="Zoom out (−)" onClick={() => onZoom(0.8)}>
          −
        </button>
        <button type="button" aria-label="Zoom in" title="Zoom in (+)" onClick={() => onZoom(1.25)}>
          +
        </button>
        <button type="button" title="Reset window, zoom and position (Space)" onClick={props.onReset}>
          Reset
        </button>
      </span>
      {drawing !== null && (
        <Toggle on={drawing} onClick={props.onDrawing} hint="r">
          Region
        </Toggle>
      )}
      {maps && (
        <span class="group">
          <Toggle on={maps.on} onClick={() => props.onMaps(!maps.on, maps.opacity)} hint="m">
            Why similar
          </Toggle>
          {maps.on && maps.similarity !== null && (
            <label title={`Similarity ${maps.similarity.toFixed(3)}`}>
              Opacity
              <input
                type="range"
                min={0}
                max={1}
                step={0.05}
                value={maps.opacity}
                onInput={(event) => props.onMaps(true, event.currentTarget.valueAsNumber)}
              />
            </label>
          )}
        </span>
      )}
      {links && (
        <span class="group">
          <Toggle on={links.scroll} onClick={() => props.onLinks({ scroll: !links.scroll })}>
            Link slices
          </Toggle>
          {links.window !== null && (
            <Toggle on={links.window} onClick={() => props.onLinks({ window: !links.window })}>
              Link window
            </Toggle>
          )}
        </span>
      )}
      <span class="group last">
        {props.onSimilar && (
          <button type="button" class="strong" title="Find similar images (f)" onClick={props.onSimilar}>
            Find similar
          </button>
        )}
        <button type="button" title="Close (Esc)" onClick={props.onClose}>
          Close
        </button>
      </span>
    </div>
  );
}

function Toggle({ on, onClick, hint, children }: { on: boolean; onClick: () => void; hint?: string; children: ComponentChildren }) {
  return (
    <button type="button" aria-pressed={on} title={hint && `${children} (${hint})`} onClick={onClick}>
      {children}
    </button>
  );
}

/** Width and level as numbers, and the windows of the file and of CT by name. */
function WindowFields({ frame, window, onWindow }: { frame: Frame; window: Window; onWindow: (window: Window) => void }) {
  const presets = presetsOf(frame.header.unit);
  const all = [...frame.named, ...presets];
  const chosen = all.findIndex(({ window: { center, width, function: kind } }) => {
    return center === window.center && width === window.width && kind === window.function;
  });
  const change = (part: Partial<Window>) => {
    const next = { ...window, ...part };
    const least = next.function === "LINEAR" ? 1 : Number.MIN_VALUE;
    if (Number.isFinite(next.center) && next.width >= least) onWindow(next);
  };
  const group = (name: string, windows: readonly NamedWindow[], first: number) =>
    windows.length > 0 && (
      <optgroup label={name}>
        {windows.map(({ name }, i) => (
          <option key={first + i} value={first + i}>
            {name}
          </option>
        ))}
      </optgroup>
    );
  return (
    <span class="group">
      {all.length > 0 && (
        <label>
          <span class="visually-hidden">Preset</span>
          <select
            value={chosen}
            onChange={(event) => {
              const named = all[Number(event.currentTarget.value)];
              if (named) onWindow(named.window);
            }}
          >
            <option value={-1} disabled>
              Window…
            </option>
            {group("Of the file", frame.named, 0)}
            {group("CT", presets, frame.named.length)}
          </select>
        </label>
      )}
      <NumberField name="Width" value={window.width} onValue={(width) => change({ width })} />
      <NumberField name="Level" value={window.center} onValue={(center) => change({ center })} />
    </span>
  );
}

function NumberField({ name, value, onValue }: { name: string; value: number; onValue: (value: number) => void }) {
  return (
    <label>
      {name}
      <input
        type="number"
        step="any"
        value={short(value)}
        onChange={({ currentTarget: field }) => {
          const told = field.valueAsNumber;
          field.value = short(value); // stays where it was unless what was told is a window
          onValue(told);
        }}
      />
    </label>
  );
}
