"""Vision models of `transformers` from a local directory, and which of their outputs are the features.

Per family, what its authors compare images with:
DINOv2, with registers too, DINOv3, RAD-DINO (is DINOv2): the class token after the last layer norm; CLIP: the projected
image embedding, the space it was trained in; SigLIP: the output of its attention pooling (it has no projection);
ViT, DeiT: the class token (their pooler is left out, many checkpoints have none); ResNet, RegNet, ConvNeXt, Swin: the
mean over places, after the layer norm where there is one. Any other family: the mean over tokens or places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import BadEncoder
from ..types import Float32

Choice = Literal["pooler_output", "image_embeds", "class token", "mean"]
FAMILIES: Mapping[str, tuple[str, Choice]] = {
    "dinov2": ("AutoModel", "pooler_output"),
    "dinov2_with_registers": ("AutoModel", "pooler_output"),
    "dinov3_vit": ("AutoModel", "pooler_output"),
    "dinov3_convnext": ("AutoModel", "pooler_output"),
    "clip": ("CLIPVisionModelWithProjection", "image_embeds"),
    "clip_vision_model": ("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip": ("SiglipVisionModel", "pooler_output"),
    "siglip_vision_model": ("SiglipVisionModel", "pooler_output"),
    "vit": ("AutoModel", "class token"),
    "deit": ("AutoModel", "class token"),
    "resnet": ("AutoModel", "pooler_output"),
    "regnet": ("AutoModel", "pooler_output"),
    "convnext": ("AutoModel", "pooler_output"),
    "convnextv2": ("AutoModel", "pooler_output"),
    "swin": ("AutoModel", "pooler_output"),
    "swinv2": ("AutoModel", "pooler_output"),
}
"""model_type of config.json -> (class that reads the image side, which output)."""
WITHOUT_POOLER = frozenset({"vit", "deit"})


def open_directory(path: Path) -> Callable[[Float32], Float32]:
    """A call from (n, 3, side, side), normalised, to features (n, dim).

    Raises BadEncoder without transformers, for a damaged directory, one whose weights are not all there (they would be
    random numbers), and one that needs code of its own.
    """
    try:
        import transformers
    except ImportError as error:
        raise BadEncoder("Frozen models of this kind need transformers: pip install 'cbmir[frozen]'.") from error
    with _quiet(transformers):
        family, model = _loaded(transformers, path)
    _, choice = FAMILIES.get(family, ("", "mean"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()

    def run(batch: Float32) -> Float32:
        with torch.inference_mode():
            chosen = _chosen(model(pixel_values=torch.from_numpy(batch).to(device)), choice)
            features: Float32 = chosen.float().flatten(1).cpu().numpy()
        return features

    return run


def _loaded(transformers: Any, path: Path) -> tuple[str, Any]:
    """(family, model)."""
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(path, **local)
        family = config.model_type
        kind, _ = FAMILIES.get(family, ("AutoModel", "mean"))
        if family == "clip":  # the size of the projection stands in the config of the whole
            config.vision_config.projection_dim = config.projection_dim
        config = getattr(config, "vision_config", config)  # the image side alone
        extra = {"add_pooling_layer": False} if family in WITHOUT_POOLER else {}
        model, found = getattr(transformers, kind).from_pretrained(
            path, config=config, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **local, **extra
        )
    except Exception as error:  # whatever a foreign file makes a foreign library raise
        raise BadEncoder(f"{path.name} cannot be read as a model of transformers: {type(error).__name__}.") from error
    if missing := sorted(found["missing_keys"]):
        raise BadEncoder(
            f"{path.name} lacks {len(missing)} of the weights its config.json speaks of, {missing[0]} first."
        )
    return family, model


def _chosen(output: Any, choice: Choice) -> torch.Tensor:
    tensor: torch.Tensor
    if choice in ("pooler_output", "image_embeds"):
        tensor = getattr(output, choice)
    elif choice == "class token":
        tensor = output.last_hidden_state[:, 0]
    else:
        last = output.last_hidden_state
        tensor = last.mean(dim=1) if last.ndim == 3 else last.mean(dim=(2, 3))
    return tensor


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """It lists every weight it does not need, and draws bars."""
    logging = transformers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
