"""The demonstration's worker: it learns a story at its start, and continues prompts token by token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from reqplane.context import Context
from reqplane.demo.ngram import NgramModel, story

PATH = "default.demo.generate"


def language_model() -> NgramModel:
    """The model that every worker trains, and the frontend too, to check what it is told."""
    return NgramModel.train(story())


def handler(model: NgramModel) -> Callable[[Any, Context], AsyncIterator[dict[str, str]]]:
    """What a worker serves: {"prompt", "max_tokens", "seed", "pause"} in, {"token"} out, one at a time."""

    async def generate(request: Mapping[str, Any], context: Context) -> AsyncIterator[dict[str, str]]:
        prompt = request.get("prompt", "")
        if not isinstance(prompt, str):
            raise ValueError(f"prompt is {prompt!r}, wanted a text")
        tokens = model.generate(
            prompt, max_tokens=int(request.get("max_tokens", 40)), seed=request.get("seed")
        )
        for token in tokens:
            if context.is_stopped():
                return
            await asyncio.sleep(float(request.get("pause", 0.01)))  # a real model takes its time, too
            yield {"token": token}

    return generate
