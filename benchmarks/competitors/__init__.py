# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Ways to make CutPaste's views: this package's batched one, and those it is compared with."""
