"""`reqplane plugins`: what is installed, what it offers, and what is wrong with it; `new` starts another."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from reqplane.cli.arguments import Commands, UsageError, add_command
from reqplane.cli.tables import table
from reqplane.errors import ReqplaneError
from reqplane.escaping import escaped_json
from reqplane.plugins import Found, Offer, list_plugins, load_plugins
from reqplane.settings import Settings, environment, load
from reqplane.skeleton import CannotWrite, wire_of, write_project

_NEXT = """\
{project} is a request plane over TCP in which two functions are missing.

    cd {project}
    pip install -e '.[test]'
    pytest

pytest says what is missing, {wire} has both functions, and
docs/write-a-transport.md leads through it."""


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "plugins",
        run,
        summary="list the installed plugins and what they offer",
        example="reqplane plugins --json",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.usage = "%(prog)s [-h] [--json] [new NAME]"  # argparse takes a command for required
    below = parser.add_subparsers(title="commands", metavar="COMMAND")
    new = add_command(
        below,
        "new",
        run_new,
        summary="write the start of a request plane of your own, in a folder of its own",
        example="reqplane plugins new sock",
    )
    new.add_argument("name", metavar="NAME", help="what DYN_REQUEST_PLANE will call it")
    new.add_argument("--dir", metavar="FOLDER", default=".", help="where to make the folder reqplane-NAME")


def run(arguments: Any) -> int:
    """Print the list, then what keeps the settings' choice from working, if anything does."""
    env = environment()
    settings = load(Settings, env)
    found = list_plugins(settings)
    print(_as_json(found) if arguments.json else _as_table(found))
    try:
        load_plugins(settings, env)
    except ReqplaneError as error:
        print(f"\nAs it stands, connect() fails: {error}", file=sys.stderr)
    return 0


def run_new(arguments: Any) -> int:
    """Write the project, and say how to go on."""
    try:
        project = write_project(arguments.name, Path(arguments.dir))
    except CannotWrite as error:
        raise UsageError(str(error)) from error
    print(_NEXT.format(project=project, wire=wire_of(arguments.name)))
    return 0


def _as_json(found: Iterable[Found]) -> str:
    rows = [{**asdict(plugin), "chosen": plugin.chosen} for plugin in found]
    return escaped_json(json.dumps(rows, ensure_ascii=False, indent=2))


def _as_table(found: Iterable[Found]) -> str:
    rows = [("NAME", "DISTRIBUTION", "VERSION", "CHOSEN", "OFFERS (* = chosen)")]
    rows += [_row(plugin) for plugin in found]
    return table(rows)


def _row(plugin: Found) -> tuple[str, str, str, str, str]:
    chosen = "broken" if plugin.broken else "off" if plugin.disabled else "yes" if plugin.chosen else "no"
    return plugin.name, plugin.distribution, plugin.version, chosen, _offers(plugin)


def _offers(plugin: Found) -> str:
    if plugin.broken:
        return " ".join(plugin.broken.split())
    if plugin.disabled:
        return "left out by DYN_DISABLED_EXTENSIONS"
    groups = groupby(plugin.offers, key=lambda offer: offer.kind)
    return "; ".join(f"{kind} {', '.join(map(_marked, offers))}" for kind, offers in groups)


def _marked(offer: Offer) -> str:
    return f"{offer.name}*" if offer.chosen else offer.name
