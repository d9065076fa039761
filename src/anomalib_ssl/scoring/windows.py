# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Features of all windows of an image: a network applied at every place, on a regular grid."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_whole


def grid_size(size: Sequence[int], window_size: int, stride: int) -> tuple[int, int]:
    """Count the windows that fit into an image, down and across.

    Args:
        size: Height and width of the image in pixels.
        window_size: Side of a window in pixels.
        stride: Distance between windows in pixels.

    Returns:
        Height and width of the grid of windows; 57 x 57 for images of 256, windows of 32 and a stride of 4 pixels (Li
        et al., CVPR 2021, appendix A.5).

    Raises:
        ValueError: If ``window_size`` or ``stride`` is below 1 or the image is smaller than a window.

    Example:
        >>> grid_size((256, 256), window_size=32, stride=4)
        (57, 57)
    """
    check_whole("window_size", window_size, 1)
    check_whole("stride", stride, 1)
    height, width = size
    if height < window_size or width < window_size:
        msg = f"images must be at least window_size={window_size} pixels high and wide, got {height} x {width}."
        raise ValueError(msg)
    return (height - window_size) // stride + 1, (width - window_size) // stride + 1


def extract_windows(images: torch.Tensor, window_size: int, stride: int) -> torch.Tensor:
    """View all windows of images, without a copy.

    Args:
        images: Shape (B, C, H, W).
        window_size: Side p of a window in pixels.
        stride: Distance between windows in pixels.

    Returns:
        A view of shape (B, h, w, C, p, p); window (i, j) starts at pixel (i * stride, j * stride).

    Raises:
        ValueError: See :func:`grid_size`.
    """
    grid_size(images.shape[-2:], window_size, stride)
    return images.unfold(2, window_size, stride).unfold(3, window_size, stride).permute(0, 2, 3, 1, 4, 5)


def map_windows(
    images: torch.Tensor,
    network: Callable[[torch.Tensor], torch.Tensor],
    window_size: int = 32,
    stride: int = 4,
    chunk: int | None = 1024,
) -> torch.Tensor:
    """Apply a network to all windows of images, each on its own (Li et al., CVPR 2021, section 4.2, appendix A.5).

    Window size and stride are those of the paper's appendix A.5; the chunk is this package's choice and changes nothing
    but memory and speed, as long as the network is in evaluation mode.

    Args:
        images: Shape (B, C, H, W).
        network: Maps windows (n, C, p, p) to features (n, D).
        window_size: Side p of a window in pixels.
        stride: Distance between windows in pixels.
        chunk: Largest number of windows given to the network at once, also across images; ``None`` for all, as one
            graph without a loop, for export.

    Returns:
        Features of shape (B, D, h, w), see :func:`grid_size`. In memory the channels come last.

    Raises:
        ValueError: If a size is outside its limits or the network's result is not of shape (n, D).
    """
    windows = extract_windows(images, window_size, stride)
    grid = windows.shape[:3]
    if chunk is None:
        features = network(windows.flatten(0, 2))
    else:
        check_whole("chunk", chunk, 1)
        # Only a chunk is copied at a time: windows overlap, together they are far larger than the images.
        places = torch.arange(grid.numel(), device=images.device).split(chunk)
        features = torch.cat([network(windows[torch.unravel_index(place, grid)]) for place in places])
    if features.ndim != 2:
        msg = f"network must give features of shape (n, D), got {tuple(features.shape)}."
        raise ValueError(msg)
    return features.reshape(*grid, features.shape[1]).permute(0, 3, 1, 2)


def pool_windows(features: torch.Tensor, size: Sequence[int], window_size: int, stride: int) -> torch.Tensor:
    """Average a feature map over all windows of an image.

    Args:
        features: Shape (B, D, H / stride, W / stride), rounded up: position (i, j) belongs to the pixel
            (i * stride, j * stride).
        size: Height H and width W of the image in pixels.
        window_size: Side of a window in pixels, a multiple of ``stride``.
        stride: Distance between windows, and between features, in pixels.

    Returns:
        Features of shape (B, D, h, w), see :func:`grid_size`.

    Raises:
        ValueError: See :func:`grid_size`.
    """
    height, width = grid_size(size, window_size, stride)
    pooled = F.avg_pool2d(features, window_size // stride, stride=1)
    return pooled[..., :height, :width]
