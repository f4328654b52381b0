"""A language model small enough for a demonstration: it continues a text as its own story would.

It counts which token follows which few tokens, and draws the next one by those counts.  A context that
never occurred is shortened until it did.  A token is a word or a mark with the space before it, so the
text is the tokens put together.
"""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice

_TOKEN = re.compile(r"\n+| ?[\w']+| ?[^\w\s]")

Context = tuple[str, ...]


def tokenize(text: str) -> list[str]:
    """The tokens of a text; put together they are the text again, with single spaces."""
    return _TOKEN.findall(re.sub(r"[^\S\n]+", " ", text))


@dataclass(frozen=True, slots=True)
class NgramModel:
    """What follows what: for each context the possible next tokens and how often each came."""

    order: int
    following: Mapping[Context, tuple[Sequence[str], Sequence[int]]]

    @classmethod
    def train(cls, text: str, order: int = 3) -> NgramModel:
        """Count every run of up to `order` tokens."""
        if order < 1:
            raise ValueError(f"order is {order}; wanted at least 1")
        tokens = tokenize(text)
        if not tokens:
            raise ValueError("there is no text to learn from")
        counts: defaultdict[Context, Counter[str]] = defaultdict(Counter)
        for end, token in enumerate(tokens):
            for length in range(min(order, end + 1)):
                counts[tuple(tokens[end - length : end])][token] += 1
        return cls(order, {context: _columns(counter) for context, counter in counts.items()})

    def generate(
        self, prompt: str, max_tokens: int = 64, temperature: float = 1.0, seed: int | None = None
    ) -> Iterator[str]:
        """Continue `prompt`, token by token.

        At temperature 0 the likeliest token always comes; the higher, the wilder.  One `seed` gives one
        text.
        """
        if temperature < 0:
            raise ValueError(f"temperature is {temperature}; wanted 0 or more")
        return islice(self._continue(prompt, temperature, random.Random(seed)), max(max_tokens, 0))

    def _continue(self, prompt: str, temperature: float, draw: random.Random) -> Iterator[str]:
        context = tokenize(f" {prompt.strip()}")
        while True:
            tokens, counts = self._known(context)
            if temperature == 0:
                token = max(zip(counts, tokens, strict=True))[1]
            else:
                token = draw.choices(tokens, [count ** (1 / temperature) for count in counts])[0]
            yield token
            context = [*context[-self.order :], token]

    def _known(self, context: Sequence[str]) -> tuple[Sequence[str], Sequence[int]]:
        """What may follow the longest end of `context` that is known; the empty one always is."""
        for length in range(min(self.order - 1, len(context)), 0, -1):
            known = self.following.get(tuple(context[-length:]))
            if known is not None:
                return known
        return self.following[()]


def _columns(counter: Counter[str]) -> tuple[Sequence[str], Sequence[int]]:
    return tuple(counter.keys()), tuple(counter.values())


def story() -> str:
    """The text that comes with the demonstration."""
    return files("reqplane.demo").joinpath("story.txt").read_text(encoding="utf-8")
