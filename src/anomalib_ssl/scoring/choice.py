# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Which of several scores tells planted defects best."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from torchmetrics.functional.classification import binary_auroc

from anomalib_ssl.scoring.moments import Moments


class Measured:
    """What images were scored with in several ways.

    Attributes:
        values: Scores (B,) and maps (B, 1, h, w) of each batch, by name.
        masks: Masks (B, 1, h, w) of planted defects of each batch; none of sound images.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.masks: list[torch.Tensor] = []

    @classmethod
    def of(cls, batches: Iterable[Mapping[str, torch.Tensor]]) -> "Measured":
        """Gather batches of sound images."""
        measured = cls()
        for batch in batches:
            measured.add(batch)
        return measured

    def add(self, batch: Mapping[str, torch.Tensor], masks: torch.Tensor | None = None) -> None:
        """Add a batch."""
        for name, values in batch.items():
            self.values[name].append(values)
        self.masks += [] if masks is None else [masks]

    @property
    def has_defects(self) -> bool:
        """Whether any image was changed."""
        return any(bool(masks.any()) for masks in self.masks)

    def image_auroc(self, sound: "Measured", name: str) -> float:
        """AUROC of a score, of changed images against sound ones."""
        changed = torch.cat([masks.flatten(1).any(dim=1) for masks in self.masks])
        scores, normal = torch.cat(self.values[name])[changed], torch.cat(sound.values[name])
        return auroc(torch.cat([normal, scores]), len(normal) * [False] + len(scores) * [True])

    def pixel_auroc(self, name: str) -> float:
        """AUROC of a map, of changed pixels against the others."""
        return auroc(torch.cat(self.values[name]), torch.cat(self.masks))


def auroc(values: torch.Tensor, abnormal: torch.Tensor | Sequence[bool]) -> float:
    """Area under the ROC curve of values against what is abnormal, of equally many elements."""
    # On the host, where there always is float64; torchmetrics takes values outside of [0, 1] for logits.
    values = values.flatten().cpu().double()
    low, high = values.aminmax()
    shares = (values - low) / (high - low).clamp(min=1e-300)
    return float(binary_auroc(shares, torch.as_tensor(abnormal).flatten().cpu().long()))


def moments_of(batches: Iterable[torch.Tensor]) -> Moments:
    """Moments of single values; a lone one counts twice, and so has no deviation."""
    moments: Moments | None = None
    for batch in batches:
        values = batch.reshape(-1, 1)
        moments = moments or Moments(1, values.device if values.device.type == "cuda" else "cpu")
        moments.update(values)
    if moments is None:
        msg = "batches must hold at least one value."
        raise ValueError(msg)
    return moments if moments.count > 1 else moments.update(values)
