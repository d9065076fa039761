# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training by updates: budget, schedule, progress, and the statistics fitted on the way."""
