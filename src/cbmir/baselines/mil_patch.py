"""Two-stage multi-instance learning of local patches [43].

From the paper (Yan et al., Bodypart recognition using multi-stage deep learning, IPMI 2015; Multi-instance deep
learning, TMI 2016): a small CNN looks at overlapping patches. First stage: the loss of a picture is -log of the largest
P(true class | patch), so that the network itself finds the patches that tell; nobody marks them. Second stage: patches
near the best one with a response close to it are discriminative, patches that are unsure or answer a wrong class are
non-informative and become class K + 1; from the first stage's weights and a new last layer, ordinary cross-entropy. A
picture's class is that of its strongest patch, responses summed over neighbours, class K + 1 left out.

What we had to choose: pictures of 128 x 128, 36 patches of 45 x 45 every 16 pixels (the paper: about 50 x 50 on a
coarsely resampled CT slice); 24 and 48 kernels and an FC of 128, with batch normalisation; Adam; every patch learns the
class of its picture for the first epochs, without which 24 classes hardly start; the thresholds in PatchRule. The paper
does not retrieve: the features here are the FC activations, averaged over the N_INFORMATIVE patches least likely to be
of class K + 1, then made to have length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..distances import Distance
from ..encoder import Encoded
from ..preprocess import Preprocessing
from ..types import Progress, UInt8
from . import TrainPart
from ._batches import in_batches
from ._states import ArrayMethod, Arrays, tensors_of
from .patch_network import SIDE, PatchNetwork, PatchRule, Schedule, train_patches
from .projection import unit

N_INFORMATIVE = 5
"""Chosen with the unit length on a fold of organ24's train part, among 1, 3, 5, 9, 18 and 36."""
BATCH = 64


class MilPatch(ArrayMethod):
    """FC activations of the most informative patches. dim 128. schedule: epochs and learning rate, for a short run."""

    name = "mil-patch"
    distance: Distance = "euclidean"
    preprocessing = Preprocessing(size=SIDE, crop=SIDE)

    def __init__(self, *, schedule: Schedule | None = None, width: int = 128) -> None:
        self.schedule, self.width = schedule or Schedule(), width
        self._network: PatchNetwork | None = None

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        self._network = train_patches(
            train.images,
            train.numbers,
            len(train.classes),
            schedule=self.schedule,
            rule=PatchRule(),
            seed=seed,
            width=self.width,
            on_progress=on_progress,
        )
        self.classes, self.fitted = train.classes, True

    def encode(self, images: UInt8) -> Encoded:
        self._need_fit()
        return in_batches(images, BATCH, self._batch)

    @torch.inference_mode()
    def _batch(self, images: UInt8) -> Encoded:
        assert self._network is not None, "fitted"
        fc, scores = self._network(torch.from_numpy(images).float())
        rows = unit(informative_mean(fc, scores, N_INFORMATIVE).numpy())
        return Encoded({self.name: rows}, posterior(scores).numpy())

    def _state(self) -> Arrays:
        assert self._network is not None, "fitted"
        arrays = {name: tensor.numpy() for name, tensor in self._network.state_dict().items()}
        return {"width": np.array(self.width), **arrays}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        width = int(arrays["width"])
        network = PatchNetwork(len(arrays["classes"]) + 1, width=width)
        network.load_state_dict(tensors_of(arrays, network.state_dict()))
        self.width, self._network = width, network.eval()


def informative_mean(fc: Tensor, scores: Tensor, m: int) -> Tensor:
    """Mean FC activation of the m patches least likely to be of the last, non-informative class.

    fc: (batch, width, p, p); scores: (batch, K + 1, p, p); returns (batch, width).
    """
    uninformative = scores.softmax(dim=1)[:, -1].flatten(1)  # (batch, patches)
    best = uninformative.topk(min(m, uninformative.shape[1]), dim=1, largest=False).indices
    rows = best[:, None].expand(-1, fc.shape[1], -1)
    return torch.gather(fc.flatten(2), 2, rows).mean(dim=2)


def posterior(scores: Tensor) -> Tensor:
    """Of each class the strongest response, each the mean of a patch and its neighbours; made to sum to 1.

    scores: (batch, K + 1, p, p); returns (batch, K). The likeliest class is that of the strongest patch.
    """
    responses = scores.softmax(dim=1)[:, :-1]
    summed = F.avg_pool2d(responses, 3, stride=1, padding=1, count_include_pad=False)
    strongest = summed.flatten(2).amax(dim=2).clamp_min(1e-12)
    return strongest / strongest.sum(dim=1, keepdim=True)
