/** One image in a grid: the picture first, a line of words below, what can be done with it at its edge. */

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { thumbnailOf } from "../api";
import { Link } from "../navigation";
import type { Route } from "../state/route";

export function Thumbnail({ id, digest, alt = "" }: { id: string; digest: string | null; alt?: string }) {
  return <Picture address={thumbnailOf(id, digest)} alt={alt} />;
}

/** A picture that says so where it cannot be drawn. */
export function Picture({ address, alt = "" }: { address: string; alt?: string }) {
  const [lost, setLost] = useState<string | null>(null);
  if (lost === address) return <span class="lost">No picture: its file is gone or cannot be read</span>;
  return <img src={address} alt={alt} loading="lazy" decoding="async" draggable={false} onError={() => setLost(address)} />;
}

interface TileProps {
  id: string;
  digest: string | null;
  to: Route;
  label: string;
  rank?: number;
  differs?: boolean;
  judged?: boolean | undefined;
  keepScroll?: boolean;
  children: ComponentChildren;
  acts?: ComponentChildren;
}

export function Tile({ id, digest, to, label, rank, differs, judged, keepScroll, children, acts }: TileProps) {
  const kind = ["tile", differs && "differs", judged === true && "liked", judged === false && "unliked"];
  return (
    <li class={kind.filter(Boolean).join(" ")} data-id={id} data-rank={rank}>
      <Link class="picture" to={to} label={label} keepScroll={keepScroll ?? false}>
        <Thumbnail id={id} digest={digest} />
      </Link>
      <div class="caption">{children}</div>
      {acts && <div class="acts">{acts}</div>}
    </li>
  );
}

/** Arrow keys go from picture to picture of a grid, Home and End to its ends. */
export function moveInGrid(event: KeyboardEvent): void {
  const grid = event.currentTarget as HTMLElement;
  const pictures = [...grid.querySelectorAll<HTMLElement>("a.picture")];
  const at = pictures.findIndex((picture) => picture.parentElement?.contains(document.activeElement));
  if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const top = pictures[0]?.getBoundingClientRect().top;
  const columns = pictures.filter((picture) => picture.getBoundingClientRect().top === top).length;
  const steps: Record<string, number> = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at - columns,
    ArrowDown: at + columns,
    Home: 0,
    End: pictures.length - 1,
  };
  const to = pictures[steps[event.key] ?? -1];
  if (!to) return;
  event.preventDefault();
  to.focus();
}

/** The id of the tile that has the focus. */
export function focusedId(): string | null {
  return document.activeElement?.closest<HTMLElement>(".tile")?.dataset["id"] ?? null;
}

export function focusTile(id: string): void {
  for (const tile of document.querySelectorAll<HTMLElement>(".tile")) {
    if (tile.dataset["id"] === id) tile.querySelector<HTMLElement>("a.picture")?.focus();
  }
}
