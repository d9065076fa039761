# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is in the wheel and in the sdist."""

import re
import tarfile
import zipfile
from pathlib import Path


def test_wheel_has_the_package_and_the_startup_files_only(distributions: dict[str, Path]) -> None:
    with zipfile.ZipFile(distributions["wheel"]) as wheel:
        names = wheel.namelist()
        metadata = next(name for name in names if name.endswith("METADATA"))
        text = wheel.read(metadata).decode()
        license_expression = next(line for line in text.splitlines() if "License-E" in line)
    roots = {name.split("/")[0] for name in names}
    information = metadata.split("/")[0]
    assert roots == {"anomalib_ssl", "anomalib_ssl.pth", "anomalib_ssl.start", information}
    assert "anomalib_ssl/py.typed" in names
    assert f"{information}/licenses/LICENSE" in names
    assert license_expression == "License-Expression: Apache-2.0"
    # PyPI's page has no repository around it.
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    files = ("published.yaml", "style.css", "template.html.j2", "template.md.j2")
    data = (*(f"anomalib_ssl/report/{name}" for name in files), "anomalib_ssl/qualification/template.html.j2")
    assert set(data) <= set(names)
    allowed = (".py", "py.typed", ".pth", ".start", *data)
    assert [name for name in names if not name.endswith(allowed) and information not in name] == []


def test_sdist_keeps_what_the_wheel_and_the_tests_need(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions["sdist"]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = {"LICENSE", "README.md", "pyproject.toml", "startup/anomalib_ssl.pth", "startup/anomalib_ssl.start"}
    assert wanted <= names
    assert "tests/registration/conftest.py" in names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith((".venv", ".ci"))]
