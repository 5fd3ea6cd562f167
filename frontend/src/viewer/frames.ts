// Frames that were fetched, and those that are fetched before somebody scrolls to them.

import type { Frame } from "./frame";

const MOST_BYTES = 192 << 20;
const AT_ONCE = 2;

/** load: fetches and reads one frame by its address. */
export class Frames {
  readonly #load: (address: string) => Promise<Frame>;
  readonly #most: number;
  readonly #kept = new Map<string, { frame: Promise<Frame>; bytes: number }>(); // least lately used first
  #ahead: string[] = [];
  #running = 0;

  constructor(load: (address: string) => Promise<Frame>, mostBytes = MOST_BYTES) {
    this.#load = load;
    this.#most = mostBytes;
  }

  get(address: string): Promise<Frame> {
    const kept = this.#kept.get(address);
    if (kept) {
      this.#kept.delete(address);
      this.#kept.set(address, kept);
      return kept.frame;
    }
    const entry = { frame: this.#load(address), bytes: 0 };
    this.#kept.set(address, entry);
    entry.frame.then(
      ({ stored }) => {
        entry.bytes = stored.byteLength;
        this.#forget();
      },
      () => this.#kept.delete(address), // so that it can be asked for again
    );
    return entry.frame;
  }

  /** What is likely wanted next, the likeliest first; replaces what was said before. */
  prefetch(addresses: string[]): void {
    this.#ahead = addresses.filter((address) => !this.#kept.has(address));
    while (this.#running < AT_ONCE && this.#ahead.length) void this.#next();
  }

  async #next(): Promise<void> {
    this.#running++;
    for (let address = this.#ahead.shift(); address; address = this.#ahead.shift())
      await this.get(address).catch(() => undefined); // told when it is shown
    this.#running--;
  }

  #forget(): void {
    let bytes = [...this.#kept.values()].reduce((sum, kept) => sum + kept.bytes, 0);
    for (const [address, kept] of this.#kept) {
      if (bytes <= this.#most || this.#kept.size === 1) return;
      bytes -= kept.bytes;
      this.#kept.delete(address);
    }
  }
}
