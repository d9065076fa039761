# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The subcommands of ``anomalib-ssl``, each a typed function in a module of its name; and the probe of the doctor."""
