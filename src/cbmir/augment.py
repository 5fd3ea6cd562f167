"""Other pictures of the same body: what a network should not mind, drawn for each image of a batch.

Place, size, shape and side; which CT windows, or colour or grey; window and gamma; polarity; a coil's bias field;
resolution, noise and JPEG's blocks; a black border, a burned-in text or box. All in torch, on any device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, side: int, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """images: uint8 (n, 3, s, s), to float32 (n, 3, side, side) in 0 ... 255. strength: 0 only resizes, 1 is usual."""
    if strength == 0:
        whole = images.float()
        return F.interpolate(whole, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
    draw = _Draw(len(images), generator, strength)
    x = _moved(images.float() / 255, side, draw)
    x = _channels(x, draw)
    x = _toned(x, draw)
    x = _bias_field(x, draw)
    x = _degraded(x, draw)
    return _covered(x, draw) * 255


class _Draw:
    """Random numbers, one for each image."""

    def __init__(self, n: int, generator: torch.Generator, strength: float) -> None:
        self.n, self.generator, self.strength = n, generator, strength

    def between(self, low: float, high: float) -> Tensor:
        """(n,), uniform."""
        return low + (high - low) * torch.rand(self.n, generator=self.generator)

    def around(self, centre: float, low: float, high: float) -> Tensor:
        """(n,), uniform between centre + low and centre + high at strength 1."""
        return centre + self.between(low, high) * self.strength

    def some(self, part: float) -> Tensor:
        """bool (n,): so much of the images."""
        return torch.rand(self.n, generator=self.generator) < part

    def number(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=self.generator))


def _each(values: Tensor) -> Tensor:
    """(n,) as (n, 1, 1, 1)."""
    return values[:, None, None, None].float()


def _moved(x: Tensor, side: int, draw: _Draw) -> Tensor:
    """One turn, zoom, stretch, shift and perhaps mirror; black where nothing was."""
    angle = draw.around(0, -20, 20) * math.pi / 180
    zoom, stretch = torch.exp(draw.around(0, -0.45, 0.15)), torch.exp(draw.around(0, -0.2, 0.2))
    mirror = torch.where(draw.some(0.5), -1.0, 1.0)
    wide, high = zoom * stretch, zoom / stretch
    cos, sin = torch.cos(angle), torch.sin(angle)
    right, down = (draw.between(-1, 1) * ((1 - size).clamp(min=0) + 0.08) for size in (wide, high))
    rows = (
        torch.stack([cos * wide * mirror, -sin * high, right], 1),
        torch.stack([sin * wide * mirror, cos * high, down], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), [len(x), 3, side, side], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _channels(x: Tensor, draw: _Draw) -> Tensor:
    """A quarter become one of their channels (of CT: one window), a quarter grey, half stay as they are."""
    kind = draw.between(0, 1)
    which = torch.randint(0, 3, (draw.n,), generator=draw.generator)
    one = x[torch.arange(draw.n), which][:, None].expand_as(x)
    x = torch.where(_each(kind < 0.25) > 0, one, x)
    return torch.where(_each((kind >= 0.25) & (kind < 0.5)) > 0, x.mean(1, keepdim=True).expand_as(x), x)


def _toned(x: Tensor, draw: _Draw) -> Tensor:
    """Another window, gamma and colour balance; some inverted, as MONOCHROME1 shown wrongly is."""
    low, high = draw.around(0, -0.15, 0.15), draw.around(1, -0.3, 0.3)
    gamma = torch.exp(draw.around(0, -0.5, 0.5))
    x = ((x - _each(low)) / _each((high - low).clamp(min=0.3))).clamp(0, 1) ** _each(gamma)
    gains = torch.exp((torch.rand(draw.n, 3, generator=draw.generator) - 0.5) * 0.3 * draw.strength)
    x = (x * torch.where(draw.some(0.5)[:, None], gains, 1.0)[:, :, None, None]).clamp(0, 1)
    inverted = _each(draw.some(0.07 * draw.strength))
    return x * (1 - inverted) + (1 - x) * inverted


def _bias_field(x: Tensor, draw: _Draw) -> Tensor:
    """Brighter towards somewhere, as near a coil."""
    coarse = torch.rand(draw.n, 1, 3, 3, generator=draw.generator) - 0.5
    field = F.interpolate(coarse, size=x.shape[-2:], mode="bicubic", align_corners=True)
    return (x * torch.exp(field * _each(draw.some(0.3)) * draw.strength)).clamp(0, 1)


def _degraded(x: Tensor, draw: _Draw) -> Tensor:
    """Lost resolution, noise, and the blocks of a hard JPEG."""
    if (some := draw.some(0.3)).any():
        small = F.interpolate(
            x[some], scale_factor=draw.number(0.3, 0.8), mode="bilinear", align_corners=False, antialias=True
        )
        x[some] = F.interpolate(small, size=x.shape[-2:], mode="bilinear", align_corners=False)
    if (some := draw.some(0.1)).any():
        x[some] = _jpeg(x[some], draw.number(0.02, 0.1))
    amount = draw.between(0, 1) ** 2 * 0.12 * draw.strength * draw.some(0.4)
    return (x + torch.randn(x.shape, generator=draw.generator) * _each(amount)).clamp(0, 1)


def _jpeg(x: Tensor, step: float) -> Tensor:
    """What JPEG does to a picture but for its coding: 8 x 8 cosine transforms, coarser steps for finer waves."""
    n, channels, rows, columns = x.shape
    grown = F.pad(x, (0, -columns % 8, 0, -rows % 8), mode="replicate")
    blocks = grown.unfold(2, 8, 8).unfold(3, 8, 8)  # (n, channels, rows / 8, columns / 8, 8, 8)
    places = torch.arange(8.0)
    cosines = torch.cos((2 * places[None] + 1) * places[:, None] * math.pi / 16) / 2
    cosines[0] /= math.sqrt(2)
    steps = step * (1 + places[:, None] + places[None])
    waves = torch.round(cosines @ blocks @ cosines.T / steps) * steps
    back = (cosines.T @ waves @ cosines).permute(0, 1, 2, 4, 3, 5).reshape(n, channels, *grown.shape[-2:])
    return back[..., :rows, :columns].clamp(0, 1)


def _covered(x: Tensor, draw: _Draw) -> Tensor:
    """Boxes of one grey level, bars like lines of text, or a black border."""
    side = x.shape[-1]
    for i in torch.nonzero(draw.some(0.25)).ravel().tolist():
        width, height = (int(draw.number(0.1, 0.35) * side) for _ in range(2))
        left, top = (int(draw.number(0, 0.9) * side) for _ in range(2))
        x[i, :, top : top + height, left : left + width] = draw.number(0, 1)
    for i in torch.nonzero(draw.some(0.15)).ravel().tolist():
        left, top = (int(draw.number(0, 0.8) * side) for _ in range(2))
        dots = torch.rand(3, 12, generator=draw.generator).round()  # letters, seen from afar
        text = F.interpolate(dots[None, None], scale_factor=max(1, side // 64), mode="nearest")[0, 0]
        part = x[i, :, top : top + text.shape[0], left : left + text.shape[1]]
        part[:, text[: part.shape[1], : part.shape[2]] > 0] = 1.0
    for i in torch.nonzero(draw.some(0.1)).ravel().tolist():
        margin = max(1, int(draw.number(0.02, 0.15) * side))
        x[i, :, :margin], x[i, :, -margin:], x[i, :, :, :margin], x[i, :, :, -margin:] = 0, 0, 0, 0
    return x
