"""The settings as they are, and the variables that are none."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from reqplane.doctor.report import Advice, Finding, Variable, export, note, wrong
from reqplane.escaping import HIDDEN, masked
from reqplane.settings import Problem
from reqplane.spelling import unknown

_LOOKS_SECRET = re.compile("PASSWORD|TOKEN|SECRET|KEY|CRED", re.IGNORECASE)


def listed(classes: Iterable[type[Any]], env: Mapping[str, str]) -> list[Variable]:
    """Every setting with its value and where that comes from; a secret's value is never shown."""
    fields = {field.metadata["variable"]: field for cls in classes for field in dataclasses.fields(cls)}
    return [_variable(name, field, env.get(name, "").strip()) for name, field in fields.items()]


def _variable(name: str, field: dataclasses.Field[Any], raw: str) -> Variable:
    if raw:
        return Variable(name, HIDDEN if field.metadata["secret"] else masked(raw), "environment")
    return Variable(name, _as_text(field.default), "default")


def _as_text(default: object) -> str:
    """A default as it would be typed; "-" where there is nothing to type."""
    match default:
        case None | "" | ():
            return "-"
        case tuple():
            return ",".join(map(str, default))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case float():
            return f"{default:g}"
        case _:
            return str(default)


def check_values(problems: Iterable[Problem]) -> list[Finding]:
    """Values that can't be read."""
    return [
        wrong(f"{name}={value}: {why}", Advice("correct it, or go back to the default:", (f"unset {name}",)))
        for name, value, why in problems
    ]


def check_names(env: Mapping[str, str], classes: Iterable[type[Any]]) -> list[Finding]:
    """Variables of our kind that nothing here reads."""
    findings: list[Finding] = []
    for name, meant in unknown(env, classes).items():
        secret = _LOOKS_SECRET.search(name) or (meant and _LOOKS_SECRET.search(meant))
        value = HIDDEN if secret else masked(env[name].strip())
        if meant is None:
            findings.append(note(f"{name}={value} is not a setting of anything that is installed"))
        else:
            what = f"{name}={value} is not a setting; did you mean {meant}?"
            findings.append(wrong(what, _rename(name, meant, env)))
    return findings


def _rename(name: str, meant: str, env: Mapping[str, str]) -> Advice:
    """The value goes from one name to the other without being printed."""
    if not name.isidentifier():  # no shell can name it
        return Advice(f"set {meant} instead, where {name} comes from")
    if env.get(meant, "").strip():
        return Advice(f"{meant} is set too, so drop it:", (f"unset {name}",))
    return Advice("give it its right name:", (f'export {meant}="${name}"; unset {name}',))


def with_one_more(variable: str, there: Iterable[str], name: str) -> str:
    """A setting that is a list of names, with another name in it."""
    return export(variable, ",".join([*there, name]))
