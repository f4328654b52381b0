"""The demonstration's language model."""

from __future__ import annotations

import pytest
from reqplane.demo.ngram import NgramModel, story, tokenize


@pytest.fixture(scope="module")
def model() -> NgramModel:
    return NgramModel.train(story())


def continued(
    model: NgramModel, prompt: str, tokens: int = 40, temperature: float = 1.0, seed: int = 1
) -> str:
    return "".join(model.generate(prompt, tokens, temperature, seed))


def test_tokens_put_together_are_the_text():
    assert "".join(tokenize(story())) == story().rstrip(" ")


def test_one_seed_gives_one_text(model: NgramModel):
    assert continued(model, "The keeper", seed=7) == continued(model, "The keeper", seed=7)
    texts = {continued(model, "The keeper", seed=seed) for seed in range(10)}
    assert len(texts) > 5


def test_it_gives_as_many_tokens_as_wanted(model: NgramModel):
    for wanted in (0, 1, 17, 500):
        assert len(list(model.generate("The harbour", wanted, seed=3))) == wanted


def test_it_begins_at_once(model: NgramModel):
    endless = model.generate("The light", 10**9, seed=1)
    assert next(endless)


def test_each_token_follows_from_those_before(model: NgramModel):
    tokens = tokenize(story())
    known = set(zip(tokens, tokens[1:], tokens[2:], strict=False))
    made = [" the", " harbour", *model.generate("the harbour", 30, seed=5)]
    assert set(zip(made, made[1:], made[2:], strict=False)) <= known


def test_an_unknown_prompt_is_continued_too(model: NgramModel):
    assert continued(model, "Quantum chromodynamics", tokens=5)
    assert continued(model, "", tokens=5)


def test_temperature_nought_has_one_answer(model: NgramModel):
    cold = {continued(model, "the light", temperature=0, seed=seed) for seed in range(5)}
    assert len(cold) == 1


def test_heat_makes_it_wilder():
    model = NgramModel.train("a b a b a b a b a b a b a b a b a b a c", order=2)
    cool = continued(model, "a", 400, temperature=0.3).count("c")
    hot = continued(model, "a", 400, temperature=5).count("c")
    assert cool < hot


@pytest.mark.parametrize("order", [1, 2, 4])
def test_any_order_works(order: int):
    model = NgramModel.train(story(), order)
    assert len(list(model.generate("The boy", 20, seed=1))) == 20


def test_what_makes_no_sense_is_refused(model: NgramModel):
    with pytest.raises(ValueError, match="order is 0"):
        NgramModel.train("text", order=0)
    with pytest.raises(ValueError, match="no text"):
        NgramModel.train(" ")
    with pytest.raises(ValueError, match="temperature is -1"):
        model.generate("x", temperature=-1)
