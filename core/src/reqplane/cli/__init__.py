"""The command `reqplane`.

Each command stands in a file of its own, with its `add_parser`.  Exit status: 0 done, 1 failed, 2 usage
or setting, 130 Ctrl-C.  Whatever fails on purpose is told in one line, with the place to read more.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from io import TextIOWrapper

from reqplane.bench import command as bench
from reqplane.cli import call, completion, doctor, frontend, instances, plugins, serve
from reqplane.cli.arguments import UsageError
from reqplane.cli.running import CannotGoOn
from reqplane.demo import command as demo
from reqplane.errors import PluginError, ReqplaneError, SettingsError, describe
from reqplane.escaping import escaped


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    try:
        _mend_streams()
        arguments = _parser().parse_args(argv)
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as error:  # argparse has said it all
        return error.code if isinstance(error.code, int) else 2
    except UsageError as error:
        return _complain(str(error), 2)
    except CannotGoOn as error:
        return _complain(str(error), 1)
    except ReqplaneError as error:
        return _complain(_reason(error), 2 if isinstance(error, SettingsError | PluginError) else 1)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has enough
        _discard_output()
        return 1
    except OSError as error:
        _discard_output()
        return _complain(f"the output can't be written: {describe(error)}", 1)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reqplane",
        description="The request plane of a model server.  Settings come from DYN_ variables.",
        epilog="example:\n  reqplane call default.backend.generate '{\"n\": 3}'",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"reqplane {version('reqplane')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (serve, call, instances, plugins, doctor, frontend, bench, demo):
        command.add_parser(commands)
    completion.add_parser(commands, parser)
    return parser


def _reason(error: ReqplaneError) -> str:
    """What went wrong and where to read on: one line, but for a list of bad settings."""
    text = str(error) if isinstance(error, SettingsError) else " ".join(str(error).split())
    return f"{text}; see docs/errors.md#{type(error).__name__}"


def _complain(reason: str, status: int) -> int:
    print(f"reqplane: {escaped(reason)}", file=sys.stderr)
    return status


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _mend_streams() -> None:
    """JSON is UTF-8, whatever the terminal's language; and a stream that was closed is an empty one."""
    if not sys.stdin:
        sys.stdin = open(os.devnull)  # noqa: SIM115  (stays open as long as we run)
    if not sys.stdout:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if not sys.stderr:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
