# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training images: kept in memory, drawn in batches, read as test images are seen, set aside to measure with."""
