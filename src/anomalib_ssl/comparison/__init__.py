# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs many models on many data sets and keeps every result: ``anomalib-ssl benchmark``.

The YAML schema is that of ``anomalib benchmark``; jobs, generators and runners are anomalib's classes. See
:mod:`anomalib_ssl.commands.benchmark` for what is added.
"""
