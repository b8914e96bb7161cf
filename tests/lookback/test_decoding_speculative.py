"""Speculative decoding against the large model alone."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import pytest
import torch
from torch import nn

import lookback.decoding
from lookback.decoding import accept, greedy, sample, speculative
from lookback.transformer import Config, DecoderOnly

CONFIG = Config(vocabulary=7, D=8, H=2, layers=1, hidden=12, positions="rotary")


def made(seed: int, config: Config = CONFIG) -> DecoderOnly:
    torch.manual_seed(seed)
    model = DecoderOnly(config).double().eval()
    for p in model.parameters():  # untrained logits are nearly all alike
        nn.init.normal_(p, std=0.8)
    return model


def test_accepted_tokens_are_distributed_as_the_large_model_would_draw_them():
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([[0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
    q = torch.tensor([[0.2, 0.7, 0.1]])
    N = 2000
    first, second = torch.zeros(3), torch.zeros(3)
    kept = 0
    for guess in q[0].multinomial(N, replacement=True, generator=generator):
        tokens = accept(guess[None], p, q, generator=generator)
        first[tokens[0]] += 1
        if len(tokens) == 2:
            second[tokens[1]] += 1
            kept += 1
    # 2000 draws: a share is known to a deviation of 0.011 or less, half of them to 0.016
    torch.testing.assert_close(first / N, p[0], rtol=0, atol=0.045)
    assert kept / N == pytest.approx(float(torch.minimum(p[0], q[0]).sum()), abs=0.045)
    torch.testing.assert_close(second / kept, p[1], rtol=0, atol=0.065)


def test_a_guess_that_is_as_likely_for_both_is_always_kept_and_an_impossible_one_never():
    p = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    guess = torch.tensor([1])
    for _ in range(20):
        assert accept(guess, p, p[:1]).tolist() == [1, 0]
    q = torch.tensor([[0.0, 0.0, 1.0]])
    assert {accept(torch.tensor([2]), p, q).tolist()[0] for _ in range(20)} == {0, 1}
    assert all(len(accept(torch.tensor([2]), p, q)) == 1 for _ in range(20))


@pytest.mark.parametrize("guesses", [1, 3])
@pytest.mark.parametrize("ends", [False, True])
def test_without_chance_the_text_is_the_large_models_greedy_text(guesses, ends):
    model, draft = made(0), made(1)
    prefix = torch.tensor([[1, 4, 2]])
    eos = None
    if ends:  # a token that the text does reach
        eos = int(greedy(model, model.begin(), prefix, steps=9).tokens[0, 8])
    alone = greedy(model, model.begin(), prefix, steps=14, eos=eos)
    found = speculative(model, draft, prefix, steps=14, guesses=guesses, temperature=0.0, eos=eos)
    assert found.tokens.tolist() == alone.lists()[0]
    assert (int(found.tokens[-1]) == eos) == ends
    assert found.kept <= found.guessed <= guesses * found.calls


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [1, 12, 13])  # greedy decoding never reads its last token
def test_nothing_is_guessed_beyond_the_end_so_learned_positions_suffice(seed, steps):
    config = replace(CONFIG, positions="learned", max_length=16)
    model, draft = made(seed, config), made(seed + 9, config)
    prefix = torch.tensor([[1, 4, 2, 5]])
    alone = greedy(model, model.begin(), prefix, steps=steps)
    found = speculative(model, draft, prefix, steps=steps, temperature=0.0)
    assert found.tokens.tolist() == alone.lists()[0]
    assert found.kept <= min(found.guessed, steps - found.calls + 1)


def test_a_single_step_is_one_call_without_a_guess():
    model, prefix = made(0), torch.tensor([[1, 4, 2]])
    found = speculative(model, made(0), prefix, steps=1, temperature=0.0)
    alone = greedy(model, model.begin(), prefix, steps=1)
    assert found.tokens.tolist() == alone.lists()[0]
    assert (found.calls, found.guessed, found.kept) == (1, 0, 0)


def test_guesses_behind_the_end_token_are_not_kept():
    model, prefix = made(0), torch.tensor([[1, 4, 2]])
    text = greedy(model, model.begin(), prefix, steps=10).tokens[0].tolist()
    for eos in set(text):  # a perfect draft: each of these ends the text at another place
        found = speculative(model, made(0), prefix, steps=10, guesses=4, temperature=0.0, eos=eos)
        length = text.index(eos) + 1
        assert len(found.tokens) == length
        # four guesses a call, then one token of the large model's own
        assert found.kept == length - length // 5


def test_a_distribution_of_no_number_is_not_sampled_from():
    guesses, q = torch.tensor([0, 1]), torch.full((2, 4), 0.25)
    p = torch.full((3, 4), 0.25)
    for row in range(3):
        with pytest.raises(RuntimeError, match="nan"):
            accept(guesses, p.index_fill(0, torch.tensor(row), float("nan")), q)


def test_no_function_hides_a_module_of_its_name():
    for found in pkgutil.iter_modules(lookback.decoding.__path__):
        module = importlib.import_module(f"lookback.decoding.{found.name}")
        assert getattr(lookback.decoding, found.name) is module


def test_a_perfect_draft_saves_all_calls_but_one_in_several():
    model = made(0)
    found = speculative(model, made(0), torch.tensor([[1]]), steps=15, guesses=4)
    assert found.kept == found.guessed == 12
    assert found.calls == 3  # four guesses and one token more a call


def test_the_same_generator_speculates_the_same_text():
    model, draft, prefix = made(0), made(1), torch.tensor([[1, 2]])
    texts = [
        speculative(
            model, draft, prefix, steps=12, generator=torch.Generator().manual_seed(seed)
        ).tokens.tolist()
        for seed in (4, 4, 5)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(sample(model, model.begin(), prefix, steps=12).tokens[0]) == len(texts[0])


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draft": DecoderOnly(replace(CONFIG, vocabulary=5)).eval()}, "got 5 and 7 tokens"),
        ({"draft": DecoderOnly(CONFIG)}, "training mode"),
        ({"model": DecoderOnly(CONFIG)}, "training mode"),
        ({"prefix": torch.ones(2, 1, dtype=torch.int64)}, "one prompt at a time, got 2"),
        ({"guesses": 0}, "at least 1 token, got 0"),
        ({"steps": 0}, "at least 1 step, got 0"),
        ({"eos": 7}, "eos 7 must be a token of the 7"),
    ],
)
def test_speculation_names_what_does_not_fit(change, message):
    given = {
        "model": DecoderOnly(CONFIG).eval(),
        "draft": DecoderOnly(CONFIG).eval(),
        "prefix": torch.tensor([[1]]),
        "steps": 2,
        "guesses": 2,
        "eos": None,
    } | change
    with pytest.raises(ValueError, match=message):
        speculative(
            given["model"],
            given["draft"],
            given["prefix"],
            steps=given["steps"],
            guesses=given["guesses"],
            eos=given["eos"],
        )


@pytest.mark.usefixtures("no_shape_checks")
def test_guesses_and_distributions_of_unequal_number_are_refused():
    p = torch.full((2, 3), 1 / 3)
    for guesses, q in ((torch.tensor([0, 1]), p), (torch.tensor([0]), p[:, :2]), (p[0], p[:1])):
        with pytest.raises(ValueError, match=r"n \+ 1 rows of p"):
            accept(guesses, p, q)
