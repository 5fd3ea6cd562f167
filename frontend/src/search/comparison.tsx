/** The viewer over a view: one image, or the query and a hit with why they are similar. */

import { useState } from "preact/hooks";
import * as api from "../api";
import { useLoad, useSurroundings } from "../hooks";
import { ranksSeries, type Asked } from "../state/asked";
import { Viewer, type ViewerImage } from "../viewer/Viewer";

const recordImage = (id: string): ViewerImage => ({ kind: "record", id, digest: null });

interface OpenProps {
  id: string;
  onFindSimilar: (image: ViewerImage) => void;
  onRegion: (region: api.Region, image: ViewerImage) => void;
  onClose: () => void;
}

/** An image of the gallery by itself. */
export function OpenRecord({ id, ...rest }: OpenProps) {
  return <Viewer images={[recordImage(id)]} {...rest} />;
}

/** A hit beside the first image of the query; "query" as the id is that image alone. */
export function OpenHit({ id, asked, ...rest }: OpenProps & { asked: Asked }) {
  const { can } = useSurroundings().gallery.encoder;
  const query = useQueryImage(asked);
  const [wanted, setWanted] = useState(false);
  const couldAsk = id !== "query" && can.maps && query !== null && !ranksSeries(asked);
  const maps = useLoad(couldAsk && wanted ? `explain ${id} ${JSON.stringify([query, asked.region])}` : null, (signal) =>
    api.explain(
      {
        id: query?.kind === "record" ? query.id : null,
        upload: query?.kind === "upload" ? { upload: query.upload, frame: query.frame } : null,
        hit: id,
        region: asked.region,
      },
      signal,
    ),
  );
  if (id === "query") return query && <Viewer images={[query]} {...rest} />;
  if (asked.series !== null) return <Viewer images={[recordImage(id)]} {...rest} />;
  return (
    query && (
      <Viewer
        images={[query, recordImage(id)]}
        maps={maps.value}
        mapsNote={maps.problem ? maps.problem.message : maps.busy ? "Finding out why they are similar…" : null}
        onMaps={couldAsk ? () => setWanted(true) : undefined}
        {...rest}
      />
    )
  );
}

/** The first image of the query, null until it is known. */
function useQueryImage(asked: Asked): ViewerImage | null {
  const [id] = asked.ids;
  const [one] = asked.uploads;
  const upload = id === undefined && one ? one : null;
  const { value } = useLoad(upload && "upload " + upload.upload, (signal) => api.uploadInfo(upload?.upload ?? "", signal));
  if (id !== undefined) return recordImage(id);
  if (!upload || !value) return null;
  return { kind: "upload", upload: upload.upload, frame: upload.frame ?? value.first, frames: value.frames };
}
