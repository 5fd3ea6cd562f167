"""A MobileNetV2 in ONNX, trained on ImageNet, as the start of our body."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import BadEncoder
from .mobile import Mobile


@torch.no_grad()
def start_from_onnx(network: Mobile, file: Path) -> None:
    """Take the weights of every convolution of the only body from an ONNX file, in the order of its graph.

    Its normalisations have to be folded into the convolutions, its input x / 128 - 1, as TensorFlow's own file has it.
    Raises BadEncoder for a file that cannot be read or is of another network.
    """
    try:
        import onnx
    except ImportError as error:
        raise BadEncoder("ONNX files are read by onnx: pip install 'cbmir[onnx]'.") from error
    try:
        graph = onnx.load(file).graph
    except Exception as error:  # protobuf, onnx and the file system each have their own
        raise BadEncoder(f"{file.name} cannot be read as ONNX.") from error
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [node for node in graph.node if node.op_type == "Conv"]
    wanted = [module for module in network.bodies[0].modules() if isinstance(module, nn.Conv2d)]
    if len(found) < len(wanted):
        raise BadEncoder(f"{file.name} is not a MobileNetV2: it has {len(found)} convolutions, not {len(wanted)}.")
    for conv, node in zip(wanted, found, strict=False):  # the last one of the file is its classifier
        arrays = [np.array(onnx.numpy_helper.to_array(constants[name])) for name in node.input[1:] if name in constants]
        shapes = [tuple(conv.weight.shape), (conv.out_channels,)]
        if [array.shape for array in arrays] != shapes or conv.bias is None:
            raise BadEncoder(f"{file.name} is not a MobileNetV2 of width 1 with folded normalisations.")
        conv.weight.copy_(torch.from_numpy(arrays[0]))
        conv.bias.copy_(torch.from_numpy(arrays[1]))
