# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What makes an anomaly map of one kind of evidence."""

from abc import abstractmethod

import torch

from anomalib_ssl.scoring.fitted import Fitted


class MapPart(Fitted):
    """Compares evidence of images, features or errors of every place, with that of normal images.

    It is fitted in one pass: :meth:`start`, :meth:`update` for each batch, :meth:`finish`.

    Args:
        source: Name of the evidence that it looks at, or several joined by ``+``, which come on the grid of the first.

    Attributes:
        sigma: Gaussian smoothing of the map in pixels of the image, before it is shown; 0 for none.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.sigma = 0.0

    @abstractmethod
    def start(self) -> None:
        """Forget what was fitted."""

    @abstractmethod
    def update(self, evidence: torch.Tensor) -> None:
        """Take evidence (B, C, h, w) of normal images into account."""

    @abstractmethod
    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there were too few images, or values are not finite.
        """

    def left_out(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map evidence (B, C, h, w) of training images as if each image had not been fitted to, shape (B, 1, h, w).

        A part for which that makes no difference gives what :meth:`forward` does.
        """
        return self(evidence)

    @abstractmethod
    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map evidence (B, C, h, w) to how unusual each place is, shape (B, 1, h, w).

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
        """
