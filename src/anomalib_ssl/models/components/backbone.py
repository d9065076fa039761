# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Convolutional backbones by name."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from anomalib_ssl.checks import check_choice, check_flag
from anomalib_ssl.models.components.probing import probing

LAYERS = ("pool", "level7")

STAGE_REDUCTIONS = (4, 8, 16)
"""How much smaller than the image the feature maps of the stages are that places are compared in."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Pixels are normalised by these where no weights say otherwise."""


class Backbone(nn.Module):
    """A timm network up to its last feature map, and the feature map to be scored, which may be an earlier one.

    Images come in [0, 1] and are normalised here, so that an exported graph is complete: as pretrained weights ask for,
    and from scratch by mean and standard deviation of ImageNet's pixels.

    Args:
        name: Name of a timm model with a spatial feature map, for example ``resnet18`` or ``efficientnet_b4``.
        pre_trained: Whether to load timm's pretrained weights, from its local cache or the Hugging Face hub.
        layer: Feature map to be scored: ``pool``, the one that is pooled at the end, or ``level7``, for networks of the
            EfficientNet and MobileNet families the result of the sixth stage of blocks, the stem being level one
            (Li et al., CVPR 2021, section 4.3 and table 3; 272 channels in EfficientNet-B4).

    Attributes:
        network: The timm network, for normalised images.
        num_features: Number of channels of the last feature map.
        num_scored_features: Number of channels of the feature map to be scored.
        stage_indices: timm's numbers of the stages with maps of a quarter, an eighth and a sixteenth of the image's
            size, as far as the network has them and can give them.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If timm has no model of that name, the model has no spatial feature map, or no such layer.

    Example:
        >>> import torch
        >>> Backbone("resnet18")(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 512, 2, 2])
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, name: str = "resnet18", pre_trained: bool = False, layer: str = "pool") -> None:
        super().__init__()
        check_choice("layer", layer, LAYERS)
        check_flag("pre_trained", pre_trained)
        _check_name(name)
        self.name = name
        self.pre_trained = pre_trained
        self.layer = layer
        self.network: Any = timm.create_model(name, pretrained=pre_trained, num_classes=0, global_pool="")
        if not pre_trained and isinstance(self.network, timm.models.ResNet):
            # timm starts each residual branch with a scale of zero; torchvision's recipe from scratch does not.
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.ones_(module.weight)
        self.num_features = int(self.network.num_features)
        self._channels_last_output = _has_channels_last_output(self.network, name, self.num_features)
        self.num_scored_features = self.num_features if layer == "pool" else _level7_features(self.network, name)
        infos = (
            list(getattr(self.network, "feature_info", [])) if hasattr(self.network, "forward_intermediates") else []
        )
        last = {info["reduction"]: index for index, info in enumerate(infos)}
        self.stage_indices = [last[reduction] for reduction in STAGE_REDUCTIONS if reduction in last]
        # With the weights they belong to, wherever these are loaded.
        config = self.network.pretrained_cfg if pre_trained else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
        self.register_buffer("pixel_mean", torch.tensor(config["mean"]).view(1, 3, 1, 1))
        self.register_buffer("pixel_std", torch.tensor(config["std"]).view(1, 3, 1, 1))
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last feature map (B, D, h, w) of images (B, 3, H, W) in [0, 1]."""
        features: torch.Tensor = self.network.forward_features(self.normalized(images))
        return features.permute(0, 3, 1, 2) if self._channels_last_output else features

    def scored(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the feature map to be scored (B, D, h, w) of images (B, 3, H, W) in [0, 1]."""
        return self(images) if self.layer == "pool" else _level7(self.network, self.normalized(images))

    def stages(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the feature maps of the stages of images (B, 3, H, W) in [0, 1], and run no further than these."""
        stages: list[torch.Tensor] = self.network.forward_intermediates(
            self.normalized(images), indices=self.stage_indices, stop_early=True, intermediates_only=True
        )
        return stages

    def scored_and_stages(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Compute the feature map to be scored, and those of the stages, of images (B, 3, H, W) in [0, 1]."""
        images = self.normalized(images)
        scored, stages = self.network.forward_intermediates(images, indices=self.stage_indices)
        if self.layer == "level7":  # between two of timm's stages
            return _level7(self.network, images), stages
        return scored.permute(0, 3, 1, 2) if self._channels_last_output else scored, stages

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images (B, 3, H, W) from [0, 1] to the range that :attr:`network` is made for."""
        images = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        # The faster layout for convolutions and their gradients.
        return images.contiguous(memory_format=torch.channels_last) if self.training else images


def _level7(network: Any, images: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = network.bn1(network.conv_stem(images))
    for stage in network.blocks[:6]:
        features = stage(features)
    return features


def _level7_features(network: Any, name: str) -> int:
    if not all(hasattr(network, part) for part in ("conv_stem", "bn1", "blocks")) or len(network.blocks) < 6:
        msg = f"layer='level7' needs a network of stages like EfficientNet's, got backbone={name!r}."
        raise ValueError(msg)
    with probing(network):
        return int(_level7(network, torch.zeros(1, 3, 64, 64)).shape[1])


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        msg = f"backbone must be the name of a timm model (see timm.list_models()), got {name!r}."
        raise TypeError(msg)
    # Names with a prefix such as hf-hub: or a tag such as .ra_in1k are resolved by timm itself.
    if ":" in name or timm.is_model(name.split(".", maxsplit=1)[0]):
        return
    similar = difflib.get_close_matches(name, timm.list_models(), n=3)
    hint = f" Did you mean one of {similar}?" if similar else ""
    msg = f"backbone must be the name of a timm model (see timm.list_models()), got {name!r}.{hint}"
    raise ValueError(msg)


def _has_channels_last_output(network: Any, name: str, num_features: int) -> bool:
    """Whether the network's feature map is (B, h, w, D) rather than (B, D, h, w), found by running a blank image."""
    height, width = network.default_cfg.get("input_size", (3, 224, 224))[-2:]
    with probing(network):
        shape = network.forward_features(torch.zeros(1, 3, height, width)).shape
    if len(shape) == 4 and shape[1] == num_features:
        return False
    if len(shape) == 4 and shape[-1] == num_features:
        return True
    msg = f"backbone must be a network with a spatial feature map; {name!r} gives {tuple(shape)} for one image."
    raise ValueError(msg)
