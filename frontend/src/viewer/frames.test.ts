import { describe, expect, it } from "vitest";
import type { Frame } from "./frame";
import { Frames } from "./frames";

const frame = (bytes: number) => ({ stored: new Uint8Array(bytes) }) as unknown as Frame;
const settled = () => new Promise((done) => setTimeout(done));

describe("frames", () => {
  it("are fetched once", async () => {
    const asked: string[] = [];
    const frames = new Frames(async (address) => (asked.push(address), frame(1)));
    expect(await frames.get("a")).toBe(await frames.get("a"));
    expect(asked).toEqual(["a"]);
  });
  it("that failed are asked for again", async () => {
    let n = 0;
    const frames = new Frames(async () => {
      if (n++ === 0) throw new Error("gone");
      return frame(1);
    });
    await expect(frames.get("a")).rejects.toThrow("gone");
    await expect(frames.get("a")).resolves.toBeDefined();
  });
  it("not used for the longest are forgotten first", async () => {
    const asked: string[] = [];
    const frames = new Frames(async (address) => (asked.push(address), frame(40)), 100);
    for (const address of ["a", "b", "a", "c", "a", "b"]) await frames.get(address);
    expect(asked).toEqual(["a", "b", "c", "b"]);
  });
  it("ahead are fetched in order, two at a time, and dropped when others are likelier", async () => {
    const asked: string[] = [];
    const finish: (() => void)[] = [];
    const frames = new Frames((address) => {
      asked.push(address);
      return new Promise((done) => finish.push(() => done(frame(1))));
    });
    frames.prefetch(["a", "b", "c", "d"]);
    expect(asked).toEqual(["a", "b"]);
    frames.prefetch(["x", "a"]);
    finish.forEach((done) => done());
    await settled();
    expect(asked).toEqual(["a", "b", "x"]);
  });
});
