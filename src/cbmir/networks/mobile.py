"""The compact encoder: MobileNetV2 bodies, generalised-mean pooling, one main layer of unit length, two small heads.

Several bodies look at a picture each by itself, and their channels stand side by side. A body is that of Sandler et al.
2018 (MobileNetV2: inverted residuals and linear bottlenecks, table 2), width 1, with the padding of its TensorFlow
original, so that ImageNet weights fit. Its normalisations are folded into the convolutions; one trained from nothing
has them until `fold` takes them away.
Pooling: Radenovic et al. 2018 (Fine-tuning CNN image retrieval with no human annotation, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, repetitions and first stride of each group of blocks."""
CHANNELS = 1280
"""Of the last feature map of a body; its side is the picture's, divided by 32."""
SMALLEST = 1e-6
"""Feature maps are clipped here before their power."""
HEAD_SCALE = 16.0
"""Length of a head's weights at first: cosine similarities times this can become probabilities."""


class Convolution(nn.Module):
    """A convolution that keeps the size but for its stride, perhaps a normalisation, perhaps ReLU6."""

    def __init__(
        self, into: int, out: int, size: int = 1, *, stride: int = 1, groups: int = 1, relu: bool = True, norm: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, size, stride, groups=groups, bias=not norm)
        self.norm = nn.BatchNorm2d(out) if norm else nn.Identity()
        self.stride, self.relu = stride, relu

    def forward(self, x: Tensor) -> Tensor:
        if self.conv.kernel_size[0] == 3:  # TensorFlow's 'same': an even picture lacks one column right and below only
            even = self.stride == 2 and x.shape[-1] % 2 == 0
            x = F.pad(x, (0, 1, 0, 1) if even else (1, 1, 1, 1))
        x = self.norm(self.conv(x))
        return F.relu6(x) if self.relu else x

    @torch.no_grad()
    def fold(self) -> None:
        """Put the normalisation, as it is when evaluated, into the convolution."""
        norm, conv = self.norm, self.conv
        if not isinstance(norm, nn.BatchNorm2d):
            return
        assert norm.running_var is not None
        assert norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        conv.weight.mul_(gain[:, None, None, None])
        conv.bias = nn.Parameter(norm.bias - norm.running_mean * gain)
        self.norm = nn.Identity()


class Block(nn.Module):
    """An inverted residual: widen, filter each channel by itself, narrow without ReLU."""

    def __init__(self, into: int, out: int, *, stride: int, expansion: int, norm: bool) -> None:
        super().__init__()
        wide = into * expansion
        widen = [Convolution(into, wide, norm=norm)] if expansion != 1 else []
        self.layers = nn.Sequential(
            *widen,
            Convolution(wide, wide, 3, stride=stride, groups=wide, norm=norm),
            Convolution(wide, out, relu=False, norm=norm),
        )
        self.adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.adds else out


def body(*, norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = [Convolution(3, 32, 3, stride=2, norm=norm)]
    into = 32
    for expansion, out, repetitions, stride in BLOCKS:
        for i in range(repetitions):
            layers.append(Block(into, out, stride=stride if i == 0 else 1, expansion=expansion, norm=norm))
            into = out
    return nn.Sequential(*layers, Convolution(into, CHANNELS, norm=norm))


class Mobile(nn.Module):
    """n_classes, n_modalities: outputs of the heads. bodies: how many. dim: of the main layer. norm: for training from
    nothing.
    """

    def __init__(
        self,
        n_classes: int,
        n_modalities: int,
        *,
        channels: int = 3,
        bodies: int = 1,
        dim: int = 256,
        norm: bool = False,
    ) -> None:
        super().__init__()
        if channels != 3:
            raise ValueError("this network sees three channels; grey pictures have three equal ones")
        self.bodies = nn.ModuleList(body(norm=norm) for _ in range(bodies))
        self.p = nn.Parameter(torch.full((bodies,), 3.0))
        self.project = nn.Linear(bodies * CHANNELS, dim)
        self.classes = nn.Linear(dim, n_classes)
        self.modalities = nn.Linear(dim, n_modalities)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels 0 ... 255, (batch, 3, side, side), to the main layer (batch, dim), of unit length, and the
        log-probabilities of the classes. Those of the modalities are log-softmax of `modalities(main)`.
        """
        pooled = self.pool(self.maps(images))
        main = F.normalize(self.project(pooled).float(), dim=1)  # (batch, dim)
        return main, F.log_softmax(self.classes(main).float(), dim=1)

    def maps(self, images: Tensor) -> Tensor:
        """The last feature maps, (batch, bodies * 1280, side / 32, side / 32), at least 1e-6."""
        seen = images / 128 - 1
        x = torch.cat([body(seen) for body in self.bodies], dim=1)
        return x.float().clamp(min=SMALLEST)

    def pool(self, maps: Tensor) -> Tensor:
        """The generalised mean over places: p of 1 is the mean, a great p the maximum."""
        p = self.p.repeat_interleave(CHANNELS)  # (bodies * 1280,)
        return maps.pow(p[:, None, None]).mean(dim=(2, 3)).pow(1 / p)  # (batch, bodies * 1280)

    @torch.no_grad()
    def fold(self) -> None:
        """Put every normalisation into its convolution; the answers of `eval` stay the same."""
        for module in self.bodies.modules():
            if isinstance(module, Convolution):
                module.fold()

    @torch.no_grad()
    def take_bodies(self, others: Sequence[Mobile]) -> None:
        """Of networks of one body each, theirs; they are folded as this one is."""
        for number, other in enumerate(others):
            self.bodies[number].load_state_dict(other.bodies[0].state_dict())
            self.p[number] = other.p[0]

    @torch.no_grad()
    def start_from(self, other: Mobile, number: int) -> None:
        """Take a body of another network, or its last, and what stands on that where it has the same size."""
        number = min(number, len(other.bodies) - 1)
        self.bodies[0].load_state_dict(other.bodies[number].state_dict())
        self.p[0] = other.p[number]
        seen = other.project.weight[:, number * CHANNELS : (number + 1) * CHANNELS]
        if seen.shape == self.project.weight.shape:
            self.project.weight.copy_(seen)
            self.project.bias.copy_(other.project.bias / len(other.bodies))
        for own, theirs in ((self.classes, other.classes), (self.modalities, other.modalities)):
            if own.weight.shape == theirs.weight.shape:
                own.load_state_dict(theirs.state_dict())

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight, N(0, sqrt(2 / fan out)) as in the source for convolutions; biases are 0."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                fan_out = layer.weight.shape[0] * layer.weight[0, 0].numel() / layer.groups
                layer.weight.normal_(0.0, (2 / fan_out) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
        self.initialise_heads(generator)

    @torch.no_grad()
    def initialise_heads(self, generator: torch.Generator) -> None:
        """Draw what stands on the body, N(0, sqrt(1 / fan in)); the heads, which see unit length, HEAD_SCALE of it."""
        for layer, scale in ((self.project, 1.0), (self.classes, HEAD_SCALE), (self.modalities, HEAD_SCALE)):
            layer.weight.normal_(0.0, scale * layer.in_features**-0.5, generator=generator)
            layer.bias.zero_()
