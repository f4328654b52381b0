"""docs/how-a-request-travels.md names files and functions: all of them exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from reqplane import errors

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "how-a-request-travels.md").read_text()
FOLDERS = [ROOT / "core/src/reqplane", *ROOT.glob("plugins/*/src/*/")]
PLACES = sorted(set(re.findall(r"`([a-z_/]+\.py)`\s+`([A-Za-z_.]+)`", PAGE)))


def defined(path: Path) -> set[str]:
    """The functions and classes of a file, methods as Class.method."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if hasattr(inner, "name")}  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(("file", "name"), PLACES, ids=[" ".join(place) for place in PLACES])
def test_it_is_where_the_page_says(file: str, name: str):
    files = [folder / file for folder in FOLDERS if (folder / file).exists()]
    assert any(name in defined(path) for path in files), f"{name} is not in {file}"


def test_the_page_names_many_places():
    assert len(PLACES) > 20


def test_its_errors_exist():
    table = PAGE.partition("## When something goes wrong")[2]
    named = {name for name in re.findall(r"`([A-Z][a-z]+[A-Za-z]+)`", table.partition("\n## ")[0])}
    assert len(named) >= 6
    assert all(hasattr(errors, name) for name in named)
