"""What a user would write without cbmir: a Dataset, a DataLoader with two workers, the network in float32.

python benchmarks/plain_script.py FOLDER ENCODER     prints {"images": n, "failed": n} as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import torch
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from cbmir.networks import build

SUFFIXES = {".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff"}


class Pictures(Dataset):
    """Files below a folder as float32 (1, 224, 224); None where a file cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor | None:
        try:
            picture = read(self.paths[index]).convert("L").resize((256, 256), Image.Resampling.BILINEAR)
        except Exception as error:
            print(f"{self.paths[index].name}: {error}", file=sys.stderr)
            return None
        return torch.from_numpy(np.array(picture.crop((16, 16, 240, 240)), dtype=np.float32))[None]


def read(path: Path) -> Image.Image:
    if path.suffix.lower() != ".dcm":
        return Image.open(path)
    header = pydicom.dcmread(path)
    pixels = apply_voi_lut(apply_modality_lut(header.pixel_array, header), header).astype(np.float32)
    if pixels.ndim == 3 and pixels.shape[-1] != 3:
        pixels = pixels[0]
    pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-6)
    if header.PhotometricInterpretation == "MONOCHROME1":
        pixels = 1 - pixels
    return Image.fromarray((pixels * 255).astype(np.uint8))


def collate(batch: list[torch.Tensor | None]) -> torch.Tensor | None:
    good = [picture for picture in batch if picture is not None]
    return torch.stack(good) if good else None


def main(folder: Path, encoder: Path) -> None:
    model = build(json.loads((encoder / "encoder.json").read_text())["architecture"])
    model.load_state_dict(load_file(encoder / "weights.safetensors"))
    model.eval()
    pictures = Pictures(folder)
    features: list[list[torch.Tensor]] = [[], [], []]
    with torch.inference_mode():
        for batch in DataLoader(pictures, batch_size=32, num_workers=2, collate_fn=collate):
            if batch is not None:
                for kept, layer in zip(features, model(batch)[:3], strict=True):
                    kept.append(layer)
    layers = [torch.cat(layer) for layer in features]
    print(json.dumps({"images": len(layers[0]), "failed": len(pictures) - len(layers[0])}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
