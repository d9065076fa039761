# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is no test module: it is given to a pytest of its own."""

collect_ignore = ["own_model_plugin.py"]
