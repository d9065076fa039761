# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The command ``anomalib-ssl``.

A subcommand is a plain typed function; jsonargparse makes its options from the signature and the docstring, as it does
for anomalib, so flags and YAML files work the same way here. Training, testing and export stay with ``anomalib``.

Example:
    >>> from anomalib_ssl.cli import main
    >>> main(["doctor"])  # doctest: +SKIP
    0
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser

from anomalib_ssl import __version__

PROGRAM = "anomalib-ssl"


class Command(NamedTuple):
    """Where the function of a subcommand is, and what the list of subcommands says of it."""

    module: str
    function: str
    summary: str
    positional: str | None = None
    """Argument of the function, a list of paths, that is given without a flag."""

    def load(self) -> Callable[..., object]:
        """Import the function."""
        function: Callable[..., object] = getattr(import_module(self.module), self.function)
        return function


COMMANDS = {
    "benchmark": Command("anomalib_ssl.benchmark.command", "benchmark", "Run many models and keep every result."),
    "demo": Command("anomalib_ssl.demo.command", "demo", "Train a model on generated images, without any download."),
    "diagnose": Command("anomalib_ssl.diagnose", "diagnose", "Compare a trained autoencoder with a projection."),
    "doctor": Command("anomalib_ssl.doctor", "doctor", "Check the installation and what anomalib sees of it."),
    "preview": Command("anomalib_ssl.preview", "preview", "Draw a picture of what an augmentation does to images."),
    "report": Command(
        "anomalib_ssl.report.command", "report", "Make tables, plots and a gallery of results.", positional="results"
    ),
    "refine": Command("anomalib_ssl.models.ssm.picture", "refine", "Draw a picture of how SSM refines its masks."),
    "tune": Command("anomalib_ssl.tune", "tune", "Choose the patches of CutPaste by unlabelled images."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the name of the program. Defaults to those of the process.

    Returns:
        The exit code: 0 for success, 1 for a problem found, 2 for a request that cannot be met.
    """
    arguments = [_underscored(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    # Subcommands come first, so the first one named is the one that will run: no other has to be imported.
    name = next((argument for argument in arguments if argument in COMMANDS), None)
    try:
        function = COMMANDS[name].load() if name else None
        parser = _parser(name, function)
        arguments = _with_switches(arguments, function) if function else arguments
        options = parser.instantiate_classes(parser.parse_args(arguments))
        if name is None or function is None:  # parse_args has reported it already
            return 2
        keywords = vars(options[name])
        keywords.pop("config", None)
        result = function(**keywords)
        if isinstance(result, Path):  # what the command has written
            print(result)  # noqa: T201
        return result if isinstance(result, int) else 0
    except ModuleNotFoundError as error:
        return _fail(f"{error}. What is missing: {PROGRAM} doctor")
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)


def _underscored(argument: str) -> str:
    """Take ``--keep-data`` for ``--keep_data``: options are named as in YAML files, but many type a dash."""
    if not argument.startswith("--"):
        return argument
    option, equals, value = argument.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value


def _with_switches(arguments: Sequence[str], function: Callable[..., object]) -> list[str]:
    """Let ``--resume`` stand for ``--resume=true``, for options that are true or false."""
    switches = {f"--{name}" for name, hint in get_type_hints(function).items() if hint is bool}
    following = [*arguments[1:], "--"]
    return [
        f"{argument}=true" if argument in switches and after.startswith("-") else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def _parser(name: str | None, function: Callable[..., object] | None) -> ArgumentParser:
    """Build the parser: all subcommands with their summaries, the options of the one that is to run."""
    parser = ArgumentParser(prog=PROGRAM, version=__version__, description="Tools of the anomalib-ssl models.")
    subcommands = parser.add_subcommands(dest="subcommand")
    for other, command in COMMANDS.items():
        subparser = ArgumentParser(description=command.summary)
        if other == name and function is not None:
            subparser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML or JSON file of options.")
            skip: set[str | int] = {command.positional} if command.positional else set()
            if command.positional:
                subparser.add_argument(command.positional, nargs="+", type=Path, help="Files to read.")
            subparser.add_function_arguments(function, skip=skip)
        subcommands.add_subcommand(other, subparser, help=command.summary)
    return parser


def _fail(message: str, code: int = 2) -> int:
    """Report an error on one line."""
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)  # noqa: T201
    return code
