"""The start of a request plane by somebody else: what `reqplane plugins new NAME` writes.

`project/` is a whole project whose plane is called "yours"; a new one is a copy in which that word has
become another.  So what is copied is what the type checker and the tests see.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from reqplane.spelling import OF_OTHERS

_PROJECT = Path(__file__).parent / "project"
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_LONGEST = 40


class CannotWrite(Exception):
    """The project can't be written; the text says why, in words for the command line."""


def package_of(name: str) -> str:
    """The package of a plane's project."""
    return f"reqplane_{name.replace('-', '_')}"


def distribution_of(name: str) -> str:
    """What pip calls it; its folder too."""
    return f"reqplane-{name.replace('_', '-')}"


def _prefix(name: str) -> str:
    """What the names of its variables begin with."""
    return f"DYN_{re.sub('[_-]', '_', name).upper()}"


def wire_of(name: str) -> str:
    """Where in its project the functions are that are to be filled in."""
    return f"src/{package_of(name)}/wire.py"


def write_project(name: str, folder: Path) -> Path:
    """Write the project of a plane called `name` into `folder`; where it is.  CannotWrite if it can't be."""
    _check(name)
    project = folder / distribution_of(name)
    if project.exists():
        raise CannotWrite(f"{project} is there already, and nothing is overwritten; choose another --dir")
    try:
        for source in _files():
            path = project / _renamed(str(source.relative_to(_PROJECT)), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_renamed(source.read_text(encoding="utf-8"), name), encoding="utf-8")
    except OSError as error:
        raise CannotWrite(f"{project} can't be written: {error.strerror or error}") from error
    return project


def _check(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise CannotWrite(
            f"{name!r:.80} can't be a plane's name: wanted at most {_LONGEST} lower-case letters and digits, "
            f"the first a letter, with '_' or '-' between words"
        )
    package = package_of(name)
    if importlib.util.find_spec(package) is not None:
        raise CannotWrite(f"there is a package {package} already; choose another name than {name}")
    variables = {f"{_prefix(name)}_{last}" for last in ("HOST", "PORT", "ADVERTISE_HOST")}
    if others := ", ".join(sorted(variables & OF_OTHERS)):
        raise CannotWrite(f"its {others} would be somebody else's variable; choose another name than {name}")


def _files() -> Iterator[Path]:
    """What is copied; not what Python compiled of it."""
    for path in sorted(_PROJECT.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _renamed(text: str, name: str) -> str:
    """Of the names of the plane called "yours" those of another."""
    words = re.split("[_-]", name)
    names = {
        "reqplane_yours": package_of(name),
        "reqplane-yours": distribution_of(name),
        "DYN_YOURS": _prefix(name),
        "Yours": "".join(map(str.capitalize, words)),
        "yours": name,
    }
    return re.sub("|".join(names), lambda found: names[found.group()], text)
