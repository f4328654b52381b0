"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from reqplane.model import EndpointId

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]
"""Where a command adds its parser."""


class UsageError(Exception):
    """The command line asks for something that can't be; exit status 2."""


def add_command(
    commands: Commands, name: str, run: Callable[[Any], int], *, summary: str, example: str
) -> argparse.ArgumentParser:
    """One more command: `run` gets its parsed arguments and returns the exit status."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def endpoint_path(text: str) -> str:
    """`namespace.component.endpoint`, with or without `dyn://`."""
    try:
        return str(EndpointId.parse(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def instance_number(text: str) -> int:
    """An instance's number; with 0x in front in hexadecimal, as it stands in Dynamo's keys."""
    try:
        return int(text, 16 if text.lower().startswith("0x") else 10)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is not an instance's number") from None


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def count(least: int) -> Callable[[str], int]:
    """A whole number, not below `least`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse
