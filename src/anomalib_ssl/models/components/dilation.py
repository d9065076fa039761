# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Dense features from a trained network: dilated convolutions in place of its late strides."""

import copy
from typing import Any

import torch
from torch import nn

STRIDED = (nn.Conv2d, nn.MaxPool2d)


def dilated_twin(network: nn.Module, output_stride: int) -> nn.Module:
    """Make a second network of the same weights whose feature map is no coarser than ``output_stride``.

    Whatever would reduce the resolution further does so no longer, and what follows it is dilated instead, so that each
    position of the finer map holds what the network would give for an image moved there (the *à trous* rule; Yu, Koltun
    and Funkhouser, "Dilated residual networks", CVPR 2017), but for the zeros that convolutions see beyond the border.
    At the positions that the coarse map has, both agree. Parts that average the whole map, squeeze-and-excitation
    blocks for example, average over more positions in the finer one: networks with them agree only approximately.

    The twin holds the very same parameters and buffers, through training, loading and moving. It is in evaluation mode
    and not to be trained.

    Args:
        network: Maps images (B, 3, H, W) to features (B, D, h, w) and reduces their size by convolutions and maximum
            pooling with symmetric padding.
        output_stride: Largest reduction allowed, a power of two.

    Returns:
        The twin.

    Raises:
        ValueError: If the network reduces the size by other means.
    """
    tensors = [*network.parameters(), *network.buffers()]
    twin = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}).eval()
    reductions = _reductions(twin)
    for module, (before, after) in reductions.items():
        now_before, now_after = min(before, output_stride), min(after, output_stride)
        if after > now_after:
            _check_padding(module)
        dilation = before // now_before
        module.stride = _pair(now_after // now_before)
        module.dilation = tuple(own * dilation for own in _pair(module.dilation))
        module.padding = tuple(padding * dilation for padding in _pair(module.padding))
    _check_reduction(twin, output_stride)
    for original, copied in zip(network.modules(), twin.modules(), strict=True):
        # The dictionaries themselves: moving a module to a device replaces the buffers in them.
        copied._parameters, copied._buffers = original._parameters, original._buffers
    return twin


_SIDE = 256
_REQUIREMENT = (
    "dense='convolutional' needs a backbone that shrinks images by strided convolutions and maximum pooling with "
    "symmetric padding; dense='windows' takes any"
)


def _reductions(network: nn.Module) -> dict[Any, tuple[int, int]]:
    """How much smaller than the image the input and output of each convolution and pooling are."""
    found: dict[Any, tuple[int, int]] = {}

    def note(module: Any, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        height = arguments[0].shape[-2]
        # Squeezed to a single pixel, nothing is spatial any longer.
        if height > 1:
            found[module] = _SIDE // height, _SIDE // output.shape[-2]

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, STRIDED)]
    with torch.no_grad():
        network(_image(network))
    for hook in hooks:
        hook.remove()
    return found


def _check_padding(module: Any) -> None:
    sides = zip(*map(_pair, (module.kernel_size, module.dilation, module.padding)), strict=True)
    if any(2 * padding != dilation * (kernel - 1) for kernel, dilation, padding in sides):
        msg = f"{_REQUIREMENT}; it has {module}."
        raise ValueError(msg)


def _check_reduction(network: nn.Module, output_stride: int) -> None:
    try:
        with torch.no_grad():
            height = network(_image(network)).shape[-2]
    except RuntimeError as error:
        # Two branches of different sizes, since one of them shrinks by other means.
        msg = f"{_REQUIREMENT}; with a stride of {output_stride} it fails."
        raise ValueError(msg) from error
    if height != _SIDE // output_stride:
        msg = f"{_REQUIREMENT}; with a stride of {output_stride}, {_SIDE} pixels give {height} features."
        raise ValueError(msg)


def _image(network: nn.Module) -> torch.Tensor:
    parameter = next(network.parameters())
    return torch.zeros(1, 3, _SIDE, _SIDE, device=parameter.device, dtype=parameter.dtype)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
