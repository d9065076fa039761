# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What runs in a process of its own is no test module."""

collect_ignore = ["stand_in.py", "survey.py"]
