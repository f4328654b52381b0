"""`reqplane serve`: run a handler as a worker."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import reqplane
from reqplane.cli.arguments import Commands, UsageError, add_command, count, endpoint_path
from reqplane.cli.running import run_async


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "serve",
        run,
        summary="run a handler as a worker, until SIGTERM or Ctrl-C",
        example="reqplane serve worker:generate default.backend.generate",
    )
    parser.add_argument("handler", metavar="MODULE:FUNCTION", help="the handler; MODULE may lie here")
    parser.add_argument("path", metavar="PATH", type=endpoint_path, help="namespace.component.endpoint")
    parser.add_argument(
        "--max-concurrent", metavar="N", type=count(1), help="run at most N requests at once; others wait"
    )
    parser.add_argument(
        "--max-queued", metavar="N", type=count(0), help="let at most N requests wait; refuse others"
    )


def run(arguments: Any) -> int:
    bounds = {"max_concurrent": arguments.max_concurrent, "max_queued": arguments.max_queued}
    if arguments.max_queued is not None and arguments.max_concurrent is None:
        raise UsageError("--max-queued wants --max-concurrent beside it: without it no request waits")
    return run_async(_serve(_handler(arguments.handler), arguments.path, bounds))


async def _serve(handler: Callable[..., Any], path: str, bounds: Mapping[str, int | None]) -> int:
    async with reqplane.connect() as runtime:
        try:
            await runtime.endpoint(path).serve_endpoint(handler, **bounds)
        except TypeError as error:  # not a kind of function that can be served
            raise UsageError(str(error)) from error
        except TimeoutError as error:
            print(f"reqplane: drain time ran out: {error}", file=sys.stderr)
            return 1
    return 0


def _handler(reference: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module_name, colon, name = reference.partition(":")
    if not (module_name and colon and name):
        raise UsageError(f"{reference!r} is not MODULE:FUNCTION, such as worker:generate")
    found: Any = _module(module_name)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{module_name} has no {name!r}{_suggestion(name, found)}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{reference} is not a function")
    return found


def _module(name: str) -> ModuleType:
    """Import it, from the current folder too, as `python -m` would."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {name!r}, neither here nor installed") from None
        raise UsageError(f"{name} can't be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name} can't be imported: {_place(error)}{_described(error)}") from error


def _place(error: BaseException) -> str:
    """Where in the user's file it happened."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    own = "importlib" not in frame.filename  # a syntax error has its place in its text
    return f"{frame.filename}:{frame.lineno}: " if own else ""


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _suggestion(name: str, module: object) -> str:
    close = difflib.get_close_matches(name, [key for key in vars(module) if not key.startswith("_")], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
