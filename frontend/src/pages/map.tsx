/** The similarity map with all the room there is. */

import { Atlas } from "../atlas/Atlas";
import { useTitle } from "../hooks";
import { back, go } from "../navigation";
import { OpenRecord } from "../search/comparison";
import { leadsOn } from "./browse";

export function MapPage({ open }: { open: string | null }) {
  useTitle("Similarity map");
  return (
    <div class="mappage">
      <header class="results">
        <h1>Similarity map</h1>
        <p class="quiet">Images that are alike lie close together. Zoom, and open what you see.</p>
      </header>
      <div class="mapbox">
        <Atlas onOpen={(id) => go({ page: "map", open: id })} />
      </div>
      {open && <OpenRecord id={open} {...leadsOn} onClose={() => back({ page: "map", open: null })} />}
    </div>
  );
}
