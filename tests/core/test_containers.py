"""How many lists and mappings a payload may hold, told without building them."""

from __future__ import annotations

import datetime
from typing import Any, cast

import msgpack as msgpack_package  # pyright: ignore[reportMissingTypeStubs]
import pytest
from reqplane.containers import MAX_CONTAINERS, _passed_over, msgpack_may_hold_too_many

msgpack = cast(Any, msgpack_package)  # it has no types

# One of every form that msgpack has, and what is at its bounds.
FORMS: list[Any] = [
    *(None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1),
    *(-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)),
    *(1.5, "", "a" * 31, "a" * 32, "a" * 255, "a" * 256, "a" * 65535, "a" * 65536),
    *(b"", b"a" * 255, b"a" * 256, b"a" * 65535, b"a" * 65536),
    *(msgpack.ExtType(5, b"a" * size) for size in (0, 1, 2, 3, 4, 8, 15, 16, 17, 255, 256, 65535, 65536)),
    *([], [1] * 15, [1] * 16, {}, {1: 2}, {n: 1 for n in range(16)}),
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
]


def packed(value: Any) -> bytes:
    whole: bytes = msgpack.packb(value, use_bin_type=True, datetime=True)
    return whole


@pytest.mark.parametrize("value", FORMS, ids=lambda value: f"{type(value).__name__} {value!r:.12}")
def test_every_form_is_passed_over_to_its_end(value: Any):
    data = packed(value)
    assert _passed_over(data) == len(data)
    assert _passed_over(memoryview(data)) == len(data)


def test_floats_and_long_lists_too():
    assert _passed_over(msgpack.packb(1.5, use_single_float=True)) == 5
    for head, count in ((b"\xdd", 70_000), (b"\xdf", 35_000)):
        data = head + count.to_bytes(4, "big") + bytes(70_000)
        assert _passed_over(data) == 5 + 63  # the head, and 63 of what is in it


@pytest.mark.parametrize("content", [b"\x90" * (1 << 20), bytes(range(256)) * 4096])
def test_long_bytes_and_texts_are_not_looked_into(content: bytes):
    value = {"prompt": content, "text": "\u0390" * (1 << 19), "items": [1, {}], "end": content}
    assert not msgpack_may_hold_too_many(packed(value))


def test_lists_behind_what_is_passed_over_count():
    few = packed([b"\x90" * 1000, [[]] * (MAX_CONTAINERS - 100)])
    many = packed([b"\x90" * 1000, [[]] * (MAX_CONTAINERS + 100)])
    assert not msgpack_may_hold_too_many(few)
    assert msgpack_may_hold_too_many(many)


@pytest.mark.parametrize("data", [b"\xc6\xff\xff\xff\xff", b"\xc6\xff", b"\xdb", b"\xc1" * 100, b""])
def test_lengths_that_lie_end_it(data: bytes):
    assert not msgpack_may_hold_too_many(data)
