"""Every name of Dynamo's is here, and is called as there."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import reqplane.dynamo as ours
from reqplane.dynamo import context, exceptions, instance, metadata, span

from .signatures import CLASSES, EXCEPTIONS, FUNCTIONS, VERSION, extract, kept
from .wheel import interpreter_or_skip

KEPT = kept()
MODULES = (ours, exceptions, context, instance, metadata, span)
OLDER = {"dynamo_worker": {"static"}}
"""Parameters of older versions that ours has too."""


def found(name: str) -> Any:
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def shown(function: Any, left_out: set[str]) -> str:
    """Its parameters in the form of signatures.json."""
    parameters = [
        one.replace(annotation=one.empty)
        for one in inspect.signature(function).parameters.values()
        if one.name not in ("self", *left_out)
    ]
    return str(inspect.Signature(parameters))


def same(theirs: str, mine: str) -> bool:
    """A default that the wheel does not tell may be any."""
    return re.fullmatch(re.escape(theirs).replace("=Ellipsis", "=[^,)]+"), mine) is not None


@pytest.mark.parametrize("name", [f"{cls}.{member}" for cls in CLASSES for member in KEPT[cls]])
def test_a_member_is_called_as_dynamos(name: str) -> None:
    cls, member = name.split(".")
    theirs = KEPT[cls][member]
    mine = inspect.getattr_static(found(cls), member)
    if theirs is None:
        assert not inspect.isfunction(mine)
        return
    function = mine.__func__ if isinstance(mine, staticmethod) else mine
    assert same(theirs, shown(function, set()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_called_as_dynamos(name: str) -> None:
    assert KEPT[""][name] == shown(found(name), OLDER.get(name, set()))
    older = [inspect.signature(found(name)).parameters[one] for one in OLDER.get(name, ())]
    assert all(one.kind is one.KEYWORD_ONLY and one.default is not one.empty for one in older)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_stands_where_dynamos_does(name: str) -> None:
    bases = [base.__name__ for base in getattr(exceptions, name).__mro__[1:-1]]
    assert KEPT[name] == {"bases": ", ".join(bases)}


def test_what_is_kept_is_what_the_wheel_tells() -> None:
    assert extract(interpreter_or_skip(VERSION)) == KEPT
