# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Numbers of maps, beside NumPy's."""

import numpy as np
import pytest
import torch

from anomalib_ssl.scoring import image_number


@pytest.mark.parametrize(("size", "most"), [((7, 9), 7), ((14, 15), 21), ((2, 3), 1)])
def test_numbers_equal_numpy(size, most):
    maps = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(0))
    flat = np.sort(maps.flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(image_number(maps, "max"), flat[:, -1])
    np.testing.assert_allclose(image_number(maps, "mean"), flat.mean(axis=1), rtol=1e-6)
    # A tenth of the pixels, rounded up.
    np.testing.assert_allclose(image_number(maps, "top"), flat[:, -most:].mean(axis=1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"number must be one of .*got 'median'"):
        image_number(maps, "median")
