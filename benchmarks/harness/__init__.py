# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the benchmarks share: timing, memory, metadata, reports and images. The method is in benchmarks/README.md."""
