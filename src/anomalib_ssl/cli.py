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
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import get_type_hints

from jsonargparse import ActionConfigFile, ArgumentParser

from anomalib_ssl import __version__

PROGRAM = "anomalib-ssl"

PATIENCE = 60.0
"""An error after more than these seconds of work is shown with its traceback."""


COMMANDS = {
    "benchmark": "Run many models and keep every result.",
    "demo": "Train a model on generated images, without any download.",
    "doctor": "Check the installation and what anomalib sees of it.",
    "inspect": "Draw what a trained model does inside.",
    "preview": "Draw a picture of what an augmentation does to images.",
    "qualify": "Find out what size of defect a trained model finds.",
    "report": "Make tables, plots and a gallery of results.",
}
"""What each subcommand does; it is the function of its name in the module of its name in ``anomalib_ssl.commands``."""

POSITIONAL = {"inspect": "images", "qualify": "checkpoints", "report": "results"}
"""Arguments, lists of paths, that are given without a flag."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The arguments after the name of the program. Defaults to those of the process.

    Returns:
        The exit code: 0 for success, 1 for a problem found, 2 for a request that cannot be met, 130 when interrupted.
    """
    arguments = [_underscored(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    # Subcommands come first, so the first one named is the one that will run: no other has to be imported.
    name = next((argument for argument in arguments if argument in COMMANDS), None)
    started = time.monotonic()
    try:
        function = _function(name) if name else None
        parser = _parser(name, function)
        arguments = _with_switches(arguments, function) if function else arguments
        options = parser.instantiate_classes(parser.parse_args(arguments))
        if name is None or function is None:  # parse_args has reported it already
            return 2
        keywords = vars(options[name])
        keywords.pop("config", None)
        try:
            result = function(**keywords)
        except SystemExit as error:  # so Lightning ends, with 0 or 1, when it is told to stop
            raise KeyboardInterrupt from error
        if isinstance(result, Path):  # what the command has written
            print(result)  # noqa: T201
        return result if isinstance(result, int) else 0
    except ModuleNotFoundError as error:
        return _fail(f"{error}. What is missing: {PROGRAM} doctor")
    except (ValueError, TypeError, OSError) as error:
        # At once, it is about an argument. In the middle of the work, where it came from must not be lost.
        if time.monotonic() - started > PATIENCE:
            traceback.print_exc()
        return _fail(str(error))
    except RecursionError:
        return _fail("a configuration refers to itself, or is nested too deeply.")
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)


def _function(name: str) -> Callable[..., object]:
    """Import the function of a subcommand."""
    return getattr(import_module(f"anomalib_ssl.commands.{name}"), name)


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
        f"{argument}=true" if argument in switches and after.lower() not in {"true", "false"} else argument
        for argument, after in zip(arguments, following, strict=True)
    ]


def _parser(name: str | None, function: Callable[..., object] | None) -> ArgumentParser:
    """Build the parser: all subcommands with their summaries, the options of the one that is to run."""
    parser = ArgumentParser(prog=PROGRAM, version=__version__, description="Tools of the anomalib-ssl models.")
    subcommands = parser.add_subcommands(dest="subcommand")
    for other, summary in COMMANDS.items():
        subparser = ArgumentParser(description=summary)
        if other == name and function is not None:
            subparser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML or JSON file of options.")
            positional = POSITIONAL.get(other)
            if positional:
                optional = signature(function).parameters[positional].default is not Parameter.empty
                subparser.add_argument(positional, nargs="*" if optional else "+", type=Path, help="Files to read.")
            subparser.add_function_arguments(function, skip={positional} if positional else set())
        subcommands.add_subcommand(other, subparser, help=summary)
    return parser


def _fail(message: str, code: int = 2) -> int:
    """Report an error on one line."""
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)  # noqa: T201
    return code
