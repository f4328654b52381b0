"""Each text that docs/troubleshooting.md is found by is one that the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SYMPTOMS = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)


def spoken() -> str:
    """All sources, with texts that are written in several pieces, or with fields in them, put together."""
    files = [*(ROOT / "core" / "src").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")]
    text = "\n".join(file.read_text() for file in files)
    text = re.sub(r"[\"']\s*\n\s*f?[\"']", "", text)
    return re.sub(r"\{[^{}]*\}", "…", text)


SPOKEN = spoken()


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_it_is_said(symptom: str):
    for part in symptom.replace("(", "…").replace(")", "…").split("…"):
        assert part.strip(" ,") in SPOKEN, f"nothing says {part!r}"


def test_there_are_symptoms():
    assert len(SYMPTOMS) > 15
