"""What a doctor says: findings, each with advice where something is wrong."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from typing import Literal

from reqplane.escaping import masked_text

Verdict = Literal["ok", "note", "WRONG"]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: `commands` are whole lines for a shell, `where` says in which one and when."""

    where: str
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Verdict
    what: str
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as it is: the value as it may be shown, and where it comes from."""

    name: str
    value: str
    origin: Literal["default", "environment"]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found."""

    variables: tuple[Variable, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> int:
        """How many things are wrong."""
        return sum(finding.verdict == "WRONG" for finding in self.findings)


def ok(what: str) -> Finding:
    return Finding("ok", masked_text(what))


def note(what: str, *advice: Advice) -> Finding:
    return Finding("note", masked_text(what), advice)


def wrong(what: str, *advice: Advice) -> Finding:
    return Finding("WRONG", masked_text(what), advice)


# ── lines to type ───────────────────────────────────────────────────────────────────────────────────


def export(variable: str, value: str) -> str:
    return f"export {variable}={shlex.quote(value)}"


def installing(where: str, *commands: str) -> Advice:
    """Advice of which a line is `pip_install` of ours: what an index has under these names is not ours."""
    found = "PIP_FIND_LINKS has to name the folder of our wheels, no index has them"
    return Advice(f"{where} ({found}):", commands)


def pip_install(*distributions: str) -> str:
    """For this very Python, whatever `pip` may be."""
    return f"{_python()} -m pip install {' '.join(map(shlex.quote, distributions))}"


def pip_install_there(*distributions: str) -> str:
    """For the Python of another shell, which is known there only."""
    return f"python -m pip install {' '.join(map(shlex.quote, distributions))}"


def pip_uninstall(distribution: str) -> str:
    return f"{_python()} -m pip uninstall --yes {shlex.quote(distribution)}"


def as_root(command: str) -> str:
    return command if os.geteuid() == 0 else f"sudo {command}"


def _python() -> str:
    found = shutil.which("python")
    return "python" if found is not None and found == sys.executable else shlex.quote(sys.executable)
