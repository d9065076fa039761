# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How close a map of images comes to an orthogonal projection onto the normal ones.

Bauer et al. (Mathematics 2024, 12 (24), 3988) state that the trained autoencoder resembles such a projection. What is
measured here are consequences of that, in one notation throughout: ``x`` a normal image, ``corrupted`` the same with a
region changed, ``masks`` that region, ``project`` the map, ``restored = project(corrupted)``, and ``J`` the Jacobian of
the map, which must treat each image by itself. Every result has one number an image. Which numbers a good model
reaches is not known from the paper.
"""

from collections.abc import Callable

import torch

from anomalib_ssl.models.autoencoder_projection.loss import region_losses

Projection = Callable[[torch.Tensor], torch.Tensor]
"""A map of images (B, C, H, W) to images of the same shape."""


def measure(
    project: Projection,
    x: torch.Tensor,
    corrupted: torch.Tensor,
    masks: torch.Tensor,
    chunk: int = 8,
) -> dict[str, torch.Tensor]:
    """Measure everything there is here, with directions of derivatives from torch's global generators.

    Args:
        project: The map, differentiable and with each image by itself.
        x: Clean images, shape (B, C, H, W).
        corrupted: The same with a region changed, shape (B, C, H, W).
        masks: That region, boolean, shape (B, 1, H, W).
        chunk: Largest number of images that pass through the map at once.

    Returns:
        One value an image (B,) by the name of the function, and as ``nearest`` the :func:`conservation` with the
        nearest of all ``x`` for the clean image.
    """
    directions = torch.randn_like(x)
    parts: list[dict[str, torch.Tensor]] = []
    for images, changed, region, u in zip(
        x.split(chunk), corrupted.split(chunk), masks.split(chunk), directions.split(chunk), strict=True
    ):
        with torch.no_grad():
            restored = project(changed)
            nearest = torch.cdist(changed.flatten(1), x.flatten(1)).argmin(dim=1)
            part = {
                "fixed_point": fixed_point(project, images),
                "recovery": recovery(restored, images, changed),
                "idempotence": idempotence(project, restored, changed),
                "conservation": conservation(restored, images, changed),
                "nearest": conservation(restored, x[nearest], changed),
                "locality": locality(restored, changed, region),
            }
        part["jacobian_symmetry"] = jacobian_symmetry(project, images, u)
        part["jacobian_idempotence"] = jacobian_idempotence(project, images, u)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def fixed_point(project: Projection, x: torch.Tensor) -> torch.Tensor:
    """Root mean square of ``project(x) - x``, shape (B,): 0 for a projection and images of its range."""
    return _norm(project(x) - x) / x[0].numel() ** 0.5


def recovery(restored: torch.Tensor, x: torch.Tensor, corrupted: torch.Tensor) -> torch.Tensor:
    """``|restored - x| / |corrupted - x|``, shape (B,): below 1 if the restored image is nearer to the clean one."""
    return _ratio(_norm(restored - x), _norm(corrupted - x))


def idempotence(project: Projection, restored: torch.Tensor, corrupted: torch.Tensor) -> torch.Tensor:
    """``|project(restored) - restored| / |restored - corrupted|``, shape (B,): 0 for a projection."""
    return _ratio(_norm(project(restored) - restored), _norm(restored - corrupted))


def conservation(restored: torch.Tensor, x: torch.Tensor, corrupted: torch.Tensor) -> torch.Tensor:
    """``|restored - corrupted| / |x - corrupted|``, shape (B,): at most 1 for a projection to the nearest normal image.

    The clean image is a normal one, so the nearest cannot be further away. Any other normal image takes its place as
    well as ``x``.
    """
    return _ratio(_norm(restored - corrupted), _norm(x - corrupted))


def locality(restored: torch.Tensor, corrupted: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Root mean square of ``restored - corrupted`` outside ``masks``, divided by that inside, shape (B,).

    It is 0 if nothing but the corrupted region was changed.
    """
    outside, inside = region_losses(restored, corrupted, masks)
    return _ratio(outside.sqrt(), inside.sqrt())


def jacobian_symmetry(project: Projection, x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Cosine of ``J u`` and ``J' u`` for ``J`` at ``x`` and directions ``u``, shape (B,): 1 for a projection."""
    forward, backward = jacobian_products(project, x, directions)
    return _ratio((forward * backward).flatten(1).sum(dim=1), _norm(forward) * _norm(backward))


def jacobian_idempotence(project: Projection, x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """``|J J u - J u| / |J u|`` for ``J`` at ``x`` and directions ``u``, shape (B,): 0 for a projection."""
    once, _ = jacobian_products(project, x, directions)
    twice, _ = jacobian_products(project, x, once)
    return _ratio(_norm(twice - once), _norm(once))


def jacobian_products(
    project: Projection, x: torch.Tensor, directions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """``J u`` and ``J' u`` for the Jacobian ``J`` of the map at ``x``.

    Both come from reverse mode, the first by differentiating ``v -> J' v``, which is linear: not every operation has a
    forward mode.

    Args:
        project: The map, differentiable and with each image by itself.
        x: Where, shape (B, C, H, W).
        directions: ``u``, shape (B, C, H, W).

    Returns:
        The two products, shape (B, C, H, W) each.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        result = project(x)
        dual = torch.zeros_like(result, requires_grad=True)
        (pulled_back,) = torch.autograd.grad(result, x, dual, create_graph=True)
        (forward,) = torch.autograd.grad(pulled_back, dual, directions, retain_graph=True)
        (backward,) = torch.autograd.grad(result, x, directions)
    return forward, backward


def _norm(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).norm(dim=1)


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    return numerator / denominator.clamp(min=1e-12)
