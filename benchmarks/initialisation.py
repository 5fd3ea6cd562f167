"""Why the paper's initialisation stalls with mini-batches, and what is the least that mends it.

    .venv/bin/python benchmarks/initialisation.py --data ../shared/data/organ24

For each variant: how much of a layer's output depends on the image (standard deviation between images of one neuron,
over the mean of the layer) and the mean of FCL3, before training, and the training loss of the first epochs on a part
of the train side (--epochs 0: no training).
A network whose ratio is near zero sends every image to the same point: it can learn the class frequencies only.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cbmir.classification import TrainingSet, centre_crop, fit_classifier
from cbmir.networks.dcnn import DCNN
from cbmir.packing import pack
from cbmir.preprocess import Preprocessing
from cbmir.privacy import load_pseudonyms
from cbmir.recipes import PAPER, DcnnRecipe
from cbmir.sources import labelled

PLAIN = replace(PAPER, batch_size=64, lr=0.01, momentum=0.9, precision="bf16-mixed")
VARIANTS = {
    "N(0, 0.01), biases 1 (the paper)": PLAIN,
    "N(0, 0.01), biases 0": replace(PLAIN, biases="zero"),
    "He in the CVLs, biases 1": replace(PLAIN, weights="he-cvl"),
    "He in the CVLs, biases 0": replace(PLAIN, weights="he-cvl", biases="zero"),
    "He in the CVLs, biases 0, input centred": replace(PLAIN, weights="he-cvl", biases="zero", mean=0.3, scale=0.3),
    "He everywhere, biases 0, input centred": replace(PLAIN, weights="he", biases="zero", mean=0.3, scale=0.3),
}
LAYERS = ("cvl1", "cvl3", "cvl5", "fcl1", "fcl3")


def initial(recipe: DcnnRecipe, n_classes: int) -> DCNN:
    network = DCNN(n_classes, mean=recipe.mean, scale=recipe.scale, dropout=recipe.dropout)
    network.initialise(recipe.weights, recipe.biases, torch.Generator().manual_seed(24))
    return network


@torch.no_grad()
def dependence(network: DCNN, images: torch.Tensor) -> dict[str, float]:
    """Between-image standard deviation over mean of each layer's output, after ReLU; and the mean of FCL3."""
    ratios: dict[str, float] = {}

    def note(name: str) -> object:
        def hook(_: nn.Module, __: object, output: torch.Tensor) -> None:
            active = output.relu().flatten(1)
            ratios[name] = float(active.std(dim=0).mean() / active.mean())
            ratios[f"{name} mean"] = float(active.mean())

        return network.get_submodule(name).register_forward_hook(hook)

    handles = [note(name) for name in LAYERS]
    network.eval()(images)
    for handle in handles:
        handle.remove()  # type: ignore[attr-defined]
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="manifest or folder of classes")
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    refs = [ref for ref in labelled(options.data) if ref.label and ref.split in (None, "train")]
    chosen = [refs[i] for i in np.random.default_rng(24).choice(len(refs), options.images, replace=False)]
    classes = sorted({ref.label or "" for ref in refs})
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(chosen, Preprocessing(crop=256), load_pseudonyms(), Path(folder))
        labels = np.array([classes.index(chosen[row].labels["class"]) for row in packed.rows])
        training = TrainingSet(np.array(packed.images), labels)
        some = torch.from_numpy(centre_crop(training.images[:128])).float()
        epochs = [f"loss, epoch {epoch + 1}" for epoch in range(options.epochs)]
        header = (*LAYERS, "fcl3 mean", *epochs)
        print("| variant | " + " | ".join(header) + " |\n|---" + "|---" * len(header) + "|")
        for number, (name, variant) in enumerate(VARIANTS.items()):
            network = initial(variant, len(classes))
            ratios = dependence(network, some)
            cells = [f"{ratios[layer]:.4f}" for layer in LAYERS] + [f"{ratios['fcl3 mean']:.1e}"]
            if options.epochs:
                recipe = replace(variant, epochs=options.epochs)
                log = fit_classifier(network, training, None, recipe, Path(folder) / str(number), seed=24, device="cpu")
                cells += [f"{line['loss']:.2f}" for line in log]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
