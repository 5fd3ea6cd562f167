"""The paper's deep convolutional network, readable beside its section 3.1.1.

Five convolutional layers (CVL), three fully connected layers (FCL), log-softmax over the classes. Where the paper
is silent (padding), this follows the Torch7 AlexNet of its time, whose numbers of kernels it has: 224 -> 55 -> 27 ->
13 -> 6, so FCL1 sees 256 x 6 x 6 = 9216 values.

The paper calls FCL3 both "4096 neurons" and the input of a 24-way log-softmax. Two readings:
`separate_fcl3=True` (default): FCL1, FCL2, FCL3 of 4096 each, then the outputs. `False`: FCL1, FCL2 of 4096, and FCL3
is the output layer itself, one neuron a class. Features are taken after the ReLU ("ReLU is applied to the outputs of
all convolutional and fully connected layers"), before dropout; in the second reading FCL3 are the scores before
softmax.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Init = Literal["paper", "he", "he-cvl"]
Biases = Literal["paper", "zero"]


class DCNN(nn.Module):
    """n_classes: outputs. mean, scale: the input is (x / 255 - mean) / scale. The paper does not say how
    grey levels are scaled; its recipe here takes 0 to 1.

    dropout: probability of dropping a neuron after FCL1 and FCL2 while training.
    """

    def __init__(
        self,
        n_classes: int,
        *,
        channels: int = 1,
        mean: float = 0.0,
        scale: float = 1.0,
        dropout: float = 0.5,
        separate_fcl3: bool = True,
        width: int = 4096,
    ) -> None:
        super().__init__()
        self.mean, self.scale, self.separate_fcl3 = mean, scale, separate_fcl3
        self.cvl1 = nn.Conv2d(channels, 64, kernel_size=11, stride=4, padding=2)
        self.cvl2 = nn.Conv2d(64, 192, kernel_size=5, padding=2)
        self.cvl3 = nn.Conv2d(192, 384, kernel_size=5, padding=2)
        self.cvl4 = nn.Conv2d(384, 256, kernel_size=3, padding=1)
        self.cvl5 = nn.Conv2d(256, 256, kernel_size=3, padding=1)
        self.pool = nn.MaxPool2d(kernel_size=3, stride=2)
        self.fcl1 = nn.Linear(256 * 6 * 6, width)
        self.fcl2 = nn.Linear(width, width)
        self.fcl3 = nn.Linear(width, width if separate_fcl3 else n_classes)
        self.output = nn.Linear(width, n_classes) if separate_fcl3 else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Grey levels 0 ... 255, (batch, channels, 224, 224), to FCL1, FCL2, FCL3 features and log-probabilities."""
        x = (images / 255 - self.mean) / self.scale
        x = self.pool(F.relu(self.cvl1(x)))  # (batch, 64, 27, 27)
        x = self.pool(F.relu(self.cvl2(x)))  # (batch, 192, 13, 13)
        x = F.relu(self.cvl3(x))  # (batch, 384, 13, 13)
        x = F.relu(self.cvl4(x))  # (batch, 256, 13, 13)
        x = self.pool(F.relu(self.cvl5(x)))  # (batch, 256, 6, 6)
        fcl1 = F.relu(self.fcl1(x.flatten(1)))  # (batch, width)
        fcl2 = F.relu(self.fcl2(self.dropout(fcl1)))  # (batch, width)
        fcl3 = self.fcl3(self.dropout(fcl2))  # (batch, width), or (batch, classes)
        if self.separate_fcl3:
            fcl3 = F.relu(fcl3)
        log_probabilities = F.log_softmax(self.output(fcl3).float(), dim=1)  # (batch, classes)
        return fcl1, fcl2, fcl3, log_probabilities

    @torch.no_grad()
    def initialise(self, weights: Init, biases: Biases, generator: torch.Generator) -> None:
        """Draw the weights and set the biases.

        weights: `paper`, N(0, 0.01); `he`, N(0, sqrt(2 / fan_in)), which keeps the size of activations through ReLUs;
        `he-cvl`, `he` in the convolutional layers and `paper` in the others.
        biases: `paper`, 1 in CVL2, CVL4, CVL5 and all FCLs, else 0; `zero`, 0 everywhere.
        """
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Conv2d | nn.Linear):
                continue
            fan_in = layer.weight[0].numel()
            he = weights == "he" or (weights == "he-cvl" and isinstance(layer, nn.Conv2d))
            std = (2 / fan_in) ** 0.5 if he else 0.01
            layer.weight.normal_(0.0, std, generator=generator)
            assert layer.bias is not None
            layer.bias.fill_(1.0 if biases == "paper" and name in PAPER_BIAS_ONE else 0.0)


PAPER_BIAS_ONE = frozenset({"cvl2", "cvl4", "cvl5", "fcl1", "fcl2", "fcl3"})
