# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Makes pages, tables and plots of benchmark results: ``anomalib-ssl report``."""
