# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What makes an anomaly map of one kind of evidence."""

from abc import abstractmethod

import torch

from anomalib_ssl.scoring.fitted import Fitted
from anomalib_ssl.scoring.maps import smooth, upsample

AND = "+"
"""Joins the names of candidates that are used together, and of evidence that is looked at together."""


class MapPart(Fitted):
    """Compares evidence of images, features or errors of every place, with that of normal images.

    Unless it learns nothing, it is fitted in one pass: :meth:`start`, :meth:`update` for each batch, :meth:`finish`.

    Args:
        source: Name of the evidence that it looks at, or several joined by ``+``, which come on the grid of the first.

    Attributes:
        sigma: Gaussian smoothing of the map in pixels of the image, before it is shown; 0 for none.
        learns: Whether evidence of normal images changes what it gives, but for a factor.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.sigma = 0.0
        self.learns = True

    def start(self) -> None:
        """Forget what was fitted."""
        raise NotImplementedError

    def update(self, evidence: torch.Tensor) -> None:
        """Take evidence (B, C, h, w) of normal images into account."""
        raise NotImplementedError

    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there were too few images, or values are not finite.
        """
        raise NotImplementedError

    def learned_nothing(self, count: int) -> None:
        """Take note that there were normal images, of a part that does not learn."""
        self._set_fitted(count)

    def left_out(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map evidence (B, C, h, w) of training images as if each image had not been fitted to, shape (B, 1, h, w).

        A part for which that makes no difference gives what :meth:`forward` does.
        """
        return self(evidence)

    def enlarge(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Bring maps (B, 1, h, w) to the grid on which numbers of images are taken, that of the pixels.

        Args:
            maps: What :meth:`forward` gives.
            size: Height and width of the images in pixels.
        """
        return upsample(maps, size)

    def smooth(self, enlarged: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Make what is shown, shape (B, 1, H, W), of what :meth:`enlarge` gives."""
        del size
        return smooth(enlarged, self.sigma)

    @abstractmethod
    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map evidence (B, C, h, w) to how unusual each place is, shape (B, 1, h, w).

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
        """
