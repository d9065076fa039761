# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Names of files made of names that came from somewhere else."""

import hashlib
import re

LONGEST = 120
"""Most characters of a name; file systems take 255 bytes with what is put before and behind."""


def safe_name(name: str) -> str:
    """Make a name of a file, without folders, of any text; names that are safe already stay as they are.

    A name that had to be changed ends with a digest of the text, so that different texts give different files. Put a
    suffix behind it with ``f"{safe_name(name)}.png"``: the name may hold dots.

    Example:
        >>> safe_name("board_v1.2")
        'board_v1.2'
        >>> safe_name("../board v1")
        'board_v1-6278ae39'
    """
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")
    if safe and safe == name and len(safe) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{safe[: LONGEST - 9]}-{digest}".lstrip("-")
