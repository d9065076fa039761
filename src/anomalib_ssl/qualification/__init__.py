# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What size of defect a model finds, at how many false alarms: by defects planted in sound images."""

from anomalib_ssl.qualification.validation import PlantedValidation

__all__ = ["PlantedValidation"]
