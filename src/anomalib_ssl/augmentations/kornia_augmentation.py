# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Any augmentation of this package as a Kornia augmentation."""

from typing import Any

import torch
from kornia.augmentation import IntensityAugmentationBase2D
from kornia.geometry.boxes import Boxes
from kornia.geometry.keypoints import Keypoints

from anomalib_ssl.augmentations.base import Augmentation, Parameters


class KorniaAugmentation(IntensityAugmentationBase2D):
    """Wrap an :class:`~anomalib_ssl.augmentations.Augmentation` for ``kornia.augmentation.AugmentationSequential``.

    Images are augmented with probability ``p`` each. A mask that travels with them (data key ``mask``) is carried
    along: pasting augmentations add what they pasted, moving ones move it, colour changes leave it alone. Boxes
    and keypoints stay as they are; augmentations that move content refuse them. Calls can be replayed from ``_params``
    in Kornia's manner.

    Args:
        augmentation: The augmentation to wrap.
        p: Probability that a sample is augmented, in [0, 1].
        keepdim: Whether an unbatched input (C, H, W) gives an unbatched output.

    Raises:
        TypeError: If ``augmentation`` is none of this package.
        NotImplementedError: At the first box or keypoint, if content is moved; at the first mask, if what is changed
            depends on the images, as in ``LocalAugmentation``.

    Example:
        >>> import torch
        >>> from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
        >>> from anomalib_ssl.augmentations import CutPaste
        >>> _ = torch.manual_seed(0)
        >>> pipeline = AugmentationSequential(
        ...     RandomHorizontalFlip(), KorniaAugmentation(CutPaste()), data_keys=["input", "mask"]
        ... )
        >>> images, masks = pipeline(torch.rand(4, 3, 64, 64), torch.zeros(4, 1, 64, 64))
        >>> masks.amax(dim=(1, 2, 3))
        tensor([1., 1., 1., 1.])
    """

    def __init__(self, augmentation: Augmentation, p: float = 1.0, keepdim: bool = False) -> None:
        if not isinstance(augmentation, Augmentation):
            msg = f"augmentation must be an augmentation of this package, such as CutPaste(), got {augmentation!r}."
            raise TypeError(msg)
        super().__init__(p=p, p_batch=1.0, same_on_batch=False, keepdim=keepdim)
        self.augmentation = augmentation

    def generate_parameters(self, batch_shape: tuple[int, ...]) -> Parameters:
        """Sample the wrapped augmentation's parameters for images of shape (B, C, H, W)."""
        return self.augmentation.sample(batch_shape, self.device)

    def apply_transform(
        self,
        input: torch.Tensor,  # noqa: A002
        params: Parameters,
        flags: dict[str, Any],
        transform: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Augment images (B, C, H, W)."""
        del flags, transform
        return self.augmentation.apply(input, _rows(params))[0]

    def apply_transform_mask(
        self,
        input: torch.Tensor,  # noqa: A002
        params: Parameters,
        flags: dict[str, Any],
        transform: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Carry masks (B, 1, H, W) along."""
        del flags, transform
        return self.augmentation.apply_to_masks(input, _rows(params))

    def apply_transform_box(
        self,
        input: Boxes,  # noqa: A002
        params: Parameters,
        flags: dict[str, Any],
        transform: torch.Tensor | None = None,
    ) -> Boxes:
        """Leave boxes where they are, or refuse them."""
        self._refuse_if_moving("boxes")
        return super().apply_transform_box(input, params, flags, transform)

    def apply_transform_keypoint(
        self,
        input: Keypoints,  # noqa: A002
        params: Parameters,
        flags: dict[str, Any],
        transform: torch.Tensor | None = None,
    ) -> Keypoints:
        """Leave keypoints where they are, or refuse them."""
        self._refuse_if_moving("keypoints")
        return super().apply_transform_keypoint(input, params, flags, transform)

    def _refuse_if_moving(self, what: str) -> None:
        if self.augmentation.moves:
            msg = f"{type(self.augmentation).__name__} moves images and masks, not {what}: leave them out of data_keys."
            raise NotImplementedError(msg)


def _rows(parameters: Parameters) -> Parameters:
    """Leave out what Kornia adds that has no row for each sample."""
    return {name: value for name, value in parameters.items() if isinstance(value, torch.Tensor) and value.dim()}
