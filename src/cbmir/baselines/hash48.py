"""Deep learning of binary hash codes, 48 bits, on the paper's network [18].

From the paper (Lin, Yang, Hsiao, Chen, Deep learning of binary hash codes for fast image retrieval, CVPRW 2015): a
latent layer of 48 sigmoid units between the last fully connected layer and the class layer; the network is tuned by the
classes' cross-entropy alone; the code is latent > 0.5. Coarse search: all images within a Hamming radius make the pool;
fine search: Euclidean distance on the fully connected layer inside it.

What we had to choose: the network (ours, trained on the train part, instead of AlexNet from ImageNet), so the layer
below the latent one is FCL3; tuning for TUNING_EPOCHS by the network's own recipe, whose learning rate the new layers
need (a tenth of it left them untrained), without label smoothing. A benchmark ranks the whole
gallery, so there are two methods of one fit. `hash48` ranks by Hamming distance alone; 49 values tie often.
`hash48-fine` ranks by Hamming distance and inside equal ones by FCL3: its features are the code and behind it the unit
vector of FCL3, scaled so that it never outweighs one bit. `coarse_to_fine` is the paper's search with its radius.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..classification import centre_crop
from ..distances import Distance
from ..encoder import Encoded
from ..networks.dcnn import DCNN
from ..preprocess import Preprocessing
from ..recipes import PAPER_PRACTICAL, DcnnRecipe
from ..types import Float32, Int, Progress, UInt8
from . import TrainPart
from ._batches import in_batches
from ._states import ArrayMethod, Arrays, tensors_of
from .dcnn import Dcnn, train_network
from .projection import unit

N_BITS = 48
TUNING_EPOCHS = 4
FINE_SCALE = 0.49
"""Two unit vectors are at most 2 apart, so FCL3 adds at most 0.49^2 * 4 = 0.96 to a squared distance, a bit 1."""
BATCH = 64


class HashNetwork(nn.Module):
    """body: the paper's network with its own outputs unused."""

    def __init__(self, body: Any, n_classes: int) -> None:
        super().__init__()
        self.body = body
        self.latent = nn.Linear(body.fcl3.out_features, N_BITS)
        self.classes = nn.Linear(N_BITS, n_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, 1, 224, 224) to FCL3 (batch, width), the latent layer (batch, 48) in [0, 1], log-probabilities."""
        fcl3 = self.body(images)[2]
        latent = torch.sigmoid(self.latent(fcl3))
        return fcl3, latent, F.log_softmax(self.classes(latent).float(), dim=1)


class Hash48(ArrayMethod):
    """fine: `hash48-fine` instead of `hash48`. base: the network to go on from, trained first where it is not fitted.

    dim 48, values 0 or 1; fine: 48 + 4,096.
    """

    preprocessing = Preprocessing(crop=256)
    fit_name = "hash48"

    def __init__(
        self,
        *,
        fine: bool = False,
        base: Dcnn | None = None,
        recipe: DcnnRecipe = PAPER_PRACTICAL,
        tuning_epochs: int = TUNING_EPOCHS,
        width: int = 4096,
    ) -> None:
        self.name = "hash48-fine" if fine else "hash48"
        self.distance: Distance = "euclidean" if fine else "hamming"
        self.base: Dcnn = base or Dcnn(recipe=recipe, width=width)
        self.recipe, self.tuning_epochs = recipe, tuning_epochs
        self._network: HashNetwork | None = None

    def fit(self, train: TrainPart, *, seed: int, on_progress: Progress | None = None) -> None:
        if not self.base.classes:
            self.base.fit(train, seed=seed, on_progress=on_progress)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = HashNetwork(self.base.network(), len(train.classes))
        recipe = replace(self.recipe, epochs=self.tuning_epochs, warmup_epochs=0.0, label_smoothing=0.0)
        train_network(network.train(), train, recipe, seed=seed, on_progress=on_progress)
        self._network = network.cpu().eval()
        self.classes, self.fitted = train.classes, True

    def encode(self, images: UInt8) -> Encoded:
        """`hash48`: the code; `hash48-fine`: the code and FCL3 in one vector."""
        self._need_fit()
        return in_batches(images, BATCH, self._batch)

    @torch.inference_mode()
    def _batch(self, images: UInt8) -> Encoded:
        assert self._network is not None, "fitted"
        outputs = self._network(torch.from_numpy(centre_crop(images)).float())
        fcl3, latent, log_probabilities = (output.numpy() for output in outputs)
        code = (latent > 0.5).astype(np.float32)
        fine = np.hstack([code, np.float32(FINE_SCALE) * unit(fcl3)])
        return Encoded({"hash48": code, "hash48-fine": fine}, np.exp(log_probabilities))

    def _state(self) -> Arrays:
        assert self._network is not None, "fitted"
        arrays = {name: tensor.numpy() for name, tensor in self._network.state_dict().items()}
        body: DCNN = self._network.body
        return arrays | {"mean": np.array(body.mean), "scale": np.array(body.scale)}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        n_classes, width = len(arrays["classes"]), len(arrays["body.fcl1.bias"])
        body = DCNN(n_classes, mean=float(arrays["mean"]), scale=float(arrays["scale"]), width=width)
        network = HashNetwork(body, n_classes)
        network.load_state_dict(tensors_of(arrays, network.state_dict()))
        self._network = network.eval()


def coarse_to_fine(code: Float32, fcl: Float32, codes: Float32, fcls: Float32, radius: int) -> Int:
    """The paper's search of one query: rows of the gallery with at most `radius` other bits, nearest in FC first.

    code: (48,); fcl: (dim,); codes: (n, 48); fcls: (n, dim). Rows outside the radius are absent; ties by row.
    """
    pool = np.flatnonzero((codes != code).sum(axis=1) <= radius)
    distances = np.linalg.norm(fcls[pool] - fcl, axis=1)
    return pool[np.argsort(distances, kind="stable")]
