"""Every input of the corpus, and everything that fuzzing once found, again: without atheris, in a moment."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import pytest
from fuzz.invariants import LIMIT
from fuzz.run import CORPUS, SMALL_BUFFER
from fuzz.targets import TARGETS
from reqplane.wire import frame

_CORPUS_BYTES = 200_000
_ALLOWANCE = 2 << 20
"""Bytes that a target may use beside the limit, as Python's own recursion does with deep nesting …"""
_EACH_BYTE = 100
"""… and for each byte of its input, which may be JSON."""


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "_OWN_BUFFER_FROM", SMALL_BUFFER)


def _inputs(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_breaks_no_invariant(target: str) -> None:
    inputs = _inputs(target)
    assert len(inputs) >= 5
    for one in inputs:
        try:
            TARGETS[target](one.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {one}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_costs_more_memory_than_the_limit(target: str) -> None:
    """A length that is announced is not allocated, or only up to the limit."""
    gc.collect()
    tracemalloc.start()
    try:
        for one in _inputs(target):
            data = one.read_bytes()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            TARGETS[target](data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before <= LIMIT + _ALLOWANCE + _EACH_BYTE * len(data), one
    finally:
        tracemalloc.stop()


def test_the_corpus_is_small() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert sum(one.stat().st_size for one in CORPUS.rglob("*") if one.is_file()) < _CORPUS_BYTES
