"""What Dynamo has and Reqplane has not: an error where it is called, never silence."""

from __future__ import annotations

from typing import NoReturn


def not_supported(what: str, instead: str) -> NoReturn:
    raise NotImplementedError(f"{what} is not supported by Reqplane: {instead}")
