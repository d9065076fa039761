# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Dense features from a trained network: dilated convolutions in place of its late strides, for as long as they run."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

Features = Callable[[Any, torch.Tensor], torch.Tensor]


class Dilation(NamedTuple):
    """How a convolution or a pooling goes over its input, down and across."""

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]


def find_dilations(
    network: nn.Module, output_stride: int, features: Features = nn.Module.__call__
) -> dict[str, Dilation]:
    """Find out what has to change in a network so that its feature map is no coarser than ``output_stride``.

    Whatever would reduce the resolution further does so no longer, and what follows it is dilated instead, so that each
    position of the finer map holds what the network would give for an image moved there (the *à trous* rule; Yu, Koltun
    and Funkhouser, "Dilated residual networks", CVPR 2017), but for the zeros that convolutions see beyond the border.
    At the positions that the coarse map has, both agree. Parts that average the whole map, squeeze-and-excitation
    blocks for example, average over more positions in the finer one: networks with them agree only approximately.

    Args:
        network: Reduces the size of images by convolutions and maximum pooling with symmetric padding. It is left as it
            is.
        output_stride: Largest reduction allowed, a power of two.
        features: Computes features (B, D, h, w) from network and images (B, 3, H, W); by default the network's result.

    Returns:
        What :func:`dilated` needs: a part's name, and how it has to go over its input.

    Raises:
        ValueError: If the network reduces the size by other means.
    """
    probe = copy.deepcopy(network).eval()
    dilations = {}
    for name, (before, after) in _reductions(probe, features).items():
        if after <= output_stride:
            continue
        module: Any = probe.get_submodule(name)
        _check_padding(module)
        reduced = min(before, output_stride)
        factor = before // reduced
        dilations[name] = Dilation(
            _pair(output_stride // reduced), _times(module.dilation, factor), _times(module.padding, factor)
        )
    with dilated(probe, dilations):
        _check_reduction(probe, output_stride, features)
    return dilations


@contextmanager
def dilated(network: nn.Module, dilations: Mapping[str, Dilation]) -> Iterator[None]:
    """Let a network give the finer map while the context is open, in one thread at a time.

    Args:
        network: The network, or a copy of it, trained, moved or converted since.
        dilations: What :func:`find_dilations` found for it.
    """
    modules: list[Any] = [network.get_submodule(name) for name in dilations]
    before = [Dilation(module.stride, module.dilation, module.padding) for module in modules]
    try:
        for module, changed in zip(modules, dilations.values(), strict=True):
            module.stride, module.dilation, module.padding = changed
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            module.stride, module.dilation, module.padding = own


_SIDE = 256
_REQUIREMENT = (
    "dense='convolutional' needs a backbone that shrinks images by strided convolutions and maximum pooling with "
    "symmetric padding; dense='windows' takes any"
)


def _reductions(network: nn.Module, features: Features) -> dict[str, tuple[int, int]]:
    """How much smaller than the image the input and output of each convolution and pooling are, by name."""
    found: dict[Any, tuple[int, int]] = {}

    def note(module: Any, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        height = arguments[0].shape[-2]
        # Squeezed to a single pixel, nothing is spatial any longer.
        if height > 1:
            found[module] = _SIDE // height, _SIDE // output.shape[-2]

    strided = {name: part for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.MaxPool2d)}
    hooks = [module.register_forward_hook(note) for module in strided.values()]
    with torch.no_grad():
        features(network, _image(network))
    for hook in hooks:
        hook.remove()
    return {name: found[module] for name, module in strided.items() if module in found}


def _check_padding(module: Any) -> None:
    sides = zip(*map(_pair, (module.kernel_size, module.dilation, module.padding)), strict=True)
    if any(2 * padding != dilation * (kernel - 1) for kernel, dilation, padding in sides):
        msg = f"{_REQUIREMENT}; it has {module}."
        raise ValueError(msg)


def _check_reduction(network: nn.Module, output_stride: int, features: Features) -> None:
    try:
        with torch.no_grad():
            height = features(network, _image(network)).shape[-2]
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


def _times(value: int | tuple[int, int], factor: int) -> tuple[int, int]:
    down, across = _pair(value)
    return factor * down, factor * across
