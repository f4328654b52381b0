"""`reqplane doctor`: what is wrong here, and what to type."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from reqplane.cli.arguments import Commands, add_command, endpoint_path
from reqplane.cli.tables import table
from reqplane.doctor.examine import examine
from reqplane.doctor.report import Finding, Report
from reqplane.escaping import escaped, escaped_json
from reqplane.settings import environment


def add_parser(commands: Commands) -> None:
    parser = add_command(
        commands,
        "doctor",
        run,
        summary="look at settings, plugins, addresses, discovery and workers, and say what to do",
        example="reqplane doctor default.backend.generate",
    )
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        type=endpoint_path,
        help="namespace.component.endpoint whose workers are probed; all workers if left out",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(arguments: Any) -> int:
    """Print what was found; 1 if something is wrong.  No handler runs."""
    report = asyncio.run(examine(environment(), arguments.path))
    print(_as_json(report) if arguments.json else "\n".join(_as_text(report)))
    return 1 if report.wrong else 0


def _as_json(report: Report) -> str:
    document = {
        "settings": [asdict(variable) for variable in report.variables],
        "checks": [asdict(finding) for finding in report.findings],
        "wrong": report.wrong,
    }
    return escaped_json(json.dumps(document, ensure_ascii=False, indent=2))


def _as_text(report: Report) -> Iterator[str]:
    rows = [("SETTING", "VALUE", "ORIGIN")]
    yield table(rows + [(one.name, one.value, one.origin) for one in report.variables])
    yield ""
    for finding in report.findings:
        yield from _lines(finding)
    yield ""
    yield _summary(report.wrong)


def _lines(finding: Finding) -> Iterator[str]:
    """One line, and the advice below it; what is to be typed stands behind a `$`."""
    yield f"{finding.verdict:<5}  {escaped(finding.what, keep='')}"
    for advice in finding.advice:
        yield f"       {escaped(advice.where, keep='')}"
        for command in advice.commands:
            yield f"    $ {escaped(command, keep='')}"


def _summary(wrong: int) -> str:
    if not wrong:
        return "Nothing is wrong."
    return f"{wrong} thing is wrong." if wrong == 1 else f"{wrong} things are wrong."
