# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Convolutional backbones by name."""

import difflib
from typing import Any

import timm
import torch
from torch import nn


class Backbone(nn.Module):
    """A timm network up to its last feature map.

    Args:
        name: Name of a timm model with a spatial feature map, for example ``resnet18`` or ``efficientnet_b4``.
        pretrained: Whether to load timm's pretrained weights, from its local cache or the Hugging Face hub.

    Attributes:
        num_features: Number of channels of the feature map.

    Raises:
        ValueError: If timm has no model of that name, or the model has no spatial feature map.

    Example:
        >>> import torch
        >>> Backbone("resnet18")(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512, 2, 2])
    """

    def __init__(self, name: str = "resnet18", pretrained: bool = False) -> None:
        super().__init__()
        _check_name(name)
        self.network: Any = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="")
        if not pretrained and isinstance(self.network, timm.models.ResNet):
            # timm starts each residual branch with a scale of zero; torchvision's recipe from scratch does not.
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.ones_(module.weight)
        self.num_features = int(self.network.num_features)
        self._channels_last_output = _has_channels_last_output(self.network, name, self.num_features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last feature map (B, D, h, w) of normalised images (B, 3, H, W)."""
        features: torch.Tensor = self.network.forward_features(images)
        return features.permute(0, 3, 1, 2) if self._channels_last_output else features


def _check_name(name: str) -> None:
    # Names with a prefix such as hf-hub: or a tag such as .ra_in1k are resolved by timm itself.
    if ":" in name or timm.is_model(name.split(".", maxsplit=1)[0]):
        return
    similar = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f" Did you mean one of {similar}?" if similar else ""
    msg = f"backbone must be the name of a timm model (see timm.list_models()), got {name!r}.{hint}"
    raise ValueError(msg)


def _has_channels_last_output(network: Any, name: str, num_features: int) -> bool:
    """Whether the network's feature map is (B, h, w, D) rather than (B, D, h, w), found by running a blank image."""
    training = network.training
    height, width = network.default_cfg.get("input_size", (3, 224, 224))[-2:]
    try:
        with torch.no_grad():
            shape = network.eval().forward_features(torch.zeros(1, 3, height, width)).shape
    finally:
        network.train(training)
    if len(shape) == 4 and shape[1] == num_features:
        return False
    if len(shape) == 4 and shape[-1] == num_features:
        return True
    msg = f"backbone must be a network with a spatial feature map; {name!r} gives {tuple(shape)} for one image."
    raise ValueError(msg)
