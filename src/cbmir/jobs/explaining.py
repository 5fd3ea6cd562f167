"""Why a hit is similar: both images read from their files again, their maps, the check of these, and a figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadGallery, BadImage, CbmirError, UsageError
from ..gallery import Gallery, Query
from ..privacy import Pseudonyms
from ..types import Float32, Record, UInt8
from .frames import View, Wanted, views
from .hands import OWN, Hands
from .searching import Asked, no_image, search_images, stored_ref
from .single import query_ref

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..explain import Alike, Check, Float

N_RANDOM = 20
SEED = 24


@dataclass(frozen=True)
class Side:
    """One of the two images. record: None of a file that is not of the gallery; values: its map (h, w), which sums to
    the similarity; check: None unless it was asked for.
    """

    record: Record | None
    view: View
    values: Float
    check: Check | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.view.id,
            "frame": self.view.frame_number,
            "class": None if self.record is None else self.record.group or None,
            "rows": self.view.shape[0],
            "columns": self.view.shape[1],
            "box": list(self.view.box),
            "map": self.values.tolist(),
            "check": None if self.check is None else self.check.as_dict(),
        }


@dataclass(frozen=True)
class Explanation:
    """similarity: cosine of the two in the encoder's first layer."""

    layer: str
    similarity: float
    query: Side
    hit: Side

    def as_dict(self) -> dict[str, Any]:
        """As `cbmir explain --json` tells it (docs/search.md)."""
        return {
            "layer": self.layer,
            "similarity": self.similarity,
            "distance": sqrt(max(0.0, 2 - 2 * self.similarity)),
            "query": self.query.as_dict(),
            "hit": self.hit.as_dict(),
        }


def explain_hit(
    gallery: Gallery, asked: Asked, hit_id: str | None = None, *, checked: bool = False, hands: Hands = OWN
) -> Explanation:
    """Why an image of the gallery is like a file or another image of it.

    asked: one image, as for a search. hit_id: None for the first hit. checked: the maps are compared with N_RANDOM
    random ones. Raises BadEncoder for an encoder that has no maps, BadGallery where a file of the gallery is gone or
    has changed, and CbmirError when the query's gives no image.
    """
    from ..encoder import no_maps
    from ..explain import larger
    from ..privacy import load_pseudonyms

    if len(asked.files) + len(asked.ids) != 1 or asked.series or asked.every_frame:
        raise UsageError("One image is explained: give a FILE or an --id.")
    encoder: Encoder = hands.encoder_of(gallery, asked.encoder_name)
    if not encoder.has_maps:
        raise no_maps(encoder)
    pseudonyms = load_pseudonyms(make=False)
    hit_id = hit_id or _first_hit(gallery, asked, hands)
    records = {name: gallery.record(name) for name in (*asked.ids, hit_id)}
    wanted = [_query(gallery, asked, pseudonyms), stored_ref(gallery, records[hit_id], pseudonyms)]
    seen = views(wanted, (encoder.preprocessing, larger(encoder.preprocessing)), pseudonyms, hands.apart)
    query, hit = _told(seen[0], records[asked.ids[0]] if asked.ids else None), _told(seen[1], records[hit_id])
    alike = _alike(encoder, query, hit)
    known = gallery.records([query.id]).get(query.id)
    checks = _checks(encoder, (query, hit), alike) if checked else (None, None)
    return Explanation(
        layer=gallery.default_layer,
        similarity=alike.similarity,
        query=Side(known, query, alike.query, checks[0]),
        hit=Side(records[hit_id], hit, alike.hit, checks[1]),
    )


def _first_hit(gallery: Gallery, asked: Asked, hands: Hands) -> str:
    ranking, _ = search_images(gallery, asked, Query(k=1), hands)
    if not ranking.hits:
        raise UsageError("The gallery has no image of another patient to compare with; name one with --hit.")
    return ranking.hits[0].id


def _query(gallery: Gallery, asked: Asked, pseudonyms: Pseudonyms) -> Wanted:
    wanted: Wanted
    if asked.files:
        wanted = query_ref(asked.files[0]), asked.numbers[0]
    else:
        wanted = stored_ref(gallery, gallery.record(asked.ids[0]), pseudonyms)
    return replace(wanted[0], region=asked.region), wanted[1]


def _told(view: View | CbmirError, record: Record | None) -> View:
    """The view itself. record: of the gallery, which must still know the image by these pixels."""
    if record is None:
        if isinstance(view, BadImage):
            raise no_image(view.outcome, view.reason)
        if isinstance(view, CbmirError):
            raise view
        return view
    if isinstance(view, CbmirError) or record.pixel_digest not in (None, view.pixel_digest):
        raise BadGallery(f"the file of image {record.id} has changed since it was indexed: index its folder again")
    return view


def _alike(encoder: Encoder, query: View, hit: View) -> Alike:
    import numpy as np

    from ..explain import alike, look

    own, finer = (encoder.maps(np.stack([query.inputs[i], hit.inputs[i]])) for i in (0, 1))
    first, second = (look(replace(own, values=own.values[row]), finer.values[row]) for row in (0, 1))
    return alike(first, second, own)


def _checks(encoder: Encoder, pair: tuple[View, View], alike: Alike) -> tuple[Check, Check]:
    """Of each picture, its similarity with the other as a whole."""
    import numpy as np

    from ..explain import check, random_maps, similarity_with

    generator = np.random.default_rng(SEED)
    layer = next(iter(encoder.layers))
    features = encoder.encode(np.stack([view.inputs[0] for view in pair])).features[layer]

    def of(picture: UInt8, values: Float, other: Float32) -> Check:
        random = random_maps(N_RANDOM, (values.shape[0], values.shape[1]), generator)
        return check(picture, values, random, similarity_with(encoder, other))

    return of(pair[0].inputs[0], alike.query, features[1]), of(pair[1].inputs[0], alike.hit, features[0])


def draw_explanation(explanation: Explanation, out: Path) -> None:
    """Draw query and hit side by side, as `render` does, with their maps. out: its suffix is .png or .svg."""
    from ..explain import laid_over
    from ..figures import Explained, explanation_figure, save_as

    def drawn(name: str, side: Side) -> Explained:
        shown = side.view.picture.shape[:2]
        down, across = (small / full for small, full in zip(shown, side.view.shape, strict=True))
        left, top, right, bottom = side.view.box
        over = laid_over(
            side.values * side.values.size, (left * across, top * down, right * across, bottom * down), shown
        )
        group = None if side.record is None else side.record.group
        aspect = side.view.pixel_aspect * across / down
        return Explained(side.view.picture, over, aspect, f"{name}: {group}" if group else name)

    pair = drawn("query", explanation.query), drawn("hit", explanation.hit)
    save_as(explanation_figure(pair, f"similarity {explanation.similarity:.3f}"), out)
