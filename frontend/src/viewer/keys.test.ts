import { describe, expect, it } from "vitest";
import { commandOf } from "./keys";

const press = (key: string, more = {}) => ({ key, shiftKey: false, ctrlKey: false, metaKey: false, altKey: false, ...more });

describe("keys", () => {
  it("walk through slices", () => {
    expect(commandOf(press("ArrowUp"), false)).toEqual({ do: "slice", by: -1 });
    expect(commandOf(press("ArrowRight"), false)).toEqual({ do: "slice", by: 1 });
    expect(commandOf(press("PageDown"), false)).toEqual({ do: "slice", by: 10 });
  });
  it("move or resize a region while one is drawn, and search it", () => {
    expect(commandOf(press("ArrowLeft"), true)).toEqual({ do: "move", dx: -1, dy: 0, resize: false });
    expect(commandOf(press("ArrowDown", { shiftKey: true }), true)).toEqual({ do: "move", dx: 0, dy: 1, resize: true });
    expect([commandOf(press("Enter"), true), commandOf(press("Enter"), false)]).toEqual([{ do: "search" }, null]);
  });
  it("leave the browser's own alone", () => {
    expect(commandOf(press("f", { ctrlKey: true }), false)).toBeNull();
    expect(commandOf(press("Tab"), false)).toBeNull();
    expect(commandOf(press("?"), false)).toBeNull();
  });
  it("do not mind the case, and give digits to presets", () => {
    expect(commandOf(press("I", { shiftKey: true }), false)).toEqual({ do: "invert" });
    expect(commandOf(press("2"), false)).toEqual({ do: "preset", number: 2 });
  });
});
