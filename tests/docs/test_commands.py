# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Every command of this package that a page shows is one that its parser takes."""

import re
import shlex
from pathlib import Path

import pytest

from anomalib_ssl import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/results/*.md"), *ROOT.glob("src/**/README.md")]


def commands():
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                # Placeholders such as <checkpoint> are words, and dots stand for further options.
                words = shlex.split(re.sub(r"<[^>]*>", "word", line), comments=True)
                if words[:1] == ["anomalib-ssl"] and "..." not in words:
                    yield pytest.param(words[1:], id=f"{page.name}: {' '.join(words)[:60]}")


@pytest.mark.parametrize("arguments", commands())
def test_commands_of_pages_are_understood(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    name = arguments[0]
    assert name in cli.COMMANDS
    parser = cli._parser(name, function := cli._function(name))
    options = parser.parse_args(cli._with_switches([cli._underscored(each) for each in arguments], function))
    assert options.subcommand == name
