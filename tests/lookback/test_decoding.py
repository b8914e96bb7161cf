"""Decoding against exhaustive search, plain loops and probabilities written out."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lookback.decoding import beam_search, distribution, greedy, length_normaliser, sample
from lookback.seq2seq import Seq2Seq
from lookback.transformer import Config, DecoderOnly, EncoderDecoder

SMALL = Config(vocabulary=9, D=8, H=2, layers=1, hidden=12, max_length=24)
SOURCE = torch.tensor([[3, 4, 5, 6, 7, 8], [8, 3, 5, 4, 0, 0], [6, 7, 0, 0, 0, 0]])
LENGTHS = torch.tensor([6, 4, 2])
BOS, EOS = 1, 2


class History:
    """A state that is no more than the tokens so far."""

    def __init__(self) -> None:
        self.tokens = None

    def reorder(self, rows):
        self.tokens = self.tokens[rows]


class Table:
    """A model without a network: logits looked up by the last two tokens."""

    def __init__(self, V: int, seed: int = 0, sharpness: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.logits = sharpness * torch.randn(V, V, V, generator=generator, dtype=torch.float64)
        self.steps = 0

    def begin(self) -> History:
        return History()

    def step(self, tokens, state):
        old = state.tokens
        state.tokens = tokens if old is None else torch.cat([old, tokens], 1)
        self.steps += 1
        before = state.tokens[:, -2] if state.tokens.shape[1] > 1 else state.tokens[:, -1] * 0
        return self.logits[before, state.tokens[:, -1]]

    def log_prob(self, prefix: list[int], written: list[int]) -> float:
        """Of a continuation, one token after another."""
        total, history = 0.0, list(prefix)
        for token in written:
            before = history[-2] if len(history) > 1 else 0
            total += float(self.logits[before, history[-1]].log_softmax(-1)[token])
            history.append(token)
        return total


def models() -> list:
    """Each kind of model with its state, its uncached logits, and the name of its kind."""
    torch.manual_seed(4)
    recurrent = Seq2Seq(9, 9, embedding=4, hidden=6, attention="additive").double().eval()
    translator = EncoderDecoder(replace(SMALL, positions="alibi")).double().eval()
    language = DecoderOnly(replace(SMALL, positions="rotary", kv_heads=1)).double().eval()
    for model in (recurrent, translator, language):  # untrained logits are nearly all alike
        for p in model.parameters():
            nn.init.normal_(p, std=0.9)
    return [
        (
            recurrent,
            lambda rows: recurrent.begin(SOURCE[rows], LENGTHS[rows]),
            lambda tokens, rows: recurrent(SOURCE[rows], tokens, LENGTHS[rows])[0],
        ),
        (
            translator,
            lambda rows: translator.begin(SOURCE[rows], LENGTHS[rows]),
            lambda tokens, rows: translator(SOURCE[rows], tokens, LENGTHS[rows]),
        ),
        (language, lambda rows: language.begin(), lambda tokens, rows: language(tokens)),
    ]


KINDS = pytest.mark.parametrize("kind", [0, 1, 2], ids=["seq2seq", "translator", "language"])
ALL = torch.arange(3)
PROMPTS = torch.tensor([[1, 5, 3, 7], [1, 4, 0, 0], [1, 6, 8, 0]])
PROMPT_LENGTHS = torch.tensor([4, 2, 3])


@KINDS
def test_greedy_decoding_takes_the_argmax_of_the_uncached_model(kind):
    model, begin, run = models()[kind]
    prefix = torch.full((3, 1), BOS)
    found = greedy(model, begin(ALL), prefix, steps=7)
    tokens, log_prob = prefix, torch.zeros(3, dtype=torch.float64)
    for _ in range(7):
        logits = run(tokens, ALL)[:, -1]
        log_prob += logits.log_softmax(-1).amax(-1)
        tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    assert torch.equal(found.tokens, tokens[:, 1:])
    assert found.lengths.tolist() == [7, 7, 7]
    torch.testing.assert_close(found.log_prob, log_prob)


@KINDS
@pytest.mark.parametrize("width", [None, 1, 3])
def test_a_batch_of_unequal_prompts_and_sources_equals_its_rows_one_by_one(kind, width):
    model, begin, _ = models()[kind]

    def decode(rows, prefix, lengths):
        state = begin(rows)
        if width is None:
            return greedy(model, state, prefix, steps=6, eos=EOS, lengths=lengths)
        return beam_search(
            model, state, prefix, steps=6, width=width, eos=EOS, lengths=lengths, length_penalty=0.6
        )

    together = decode(ALL, PROMPTS, PROMPT_LENGTHS)
    for row in range(3):
        n = int(PROMPT_LENGTHS[row])
        alone = decode(torch.tensor([row]), PROMPTS[row : row + 1, :n], None)
        assert together.lists()[row] == alone.lists()[0]
        torch.testing.assert_close(together.scores[row], alone.scores[0])
        torch.testing.assert_close(together.log_prob[row], alone.log_prob[0])


@KINDS
@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_a_beam_of_width_one_is_greedy_decoding(kind, alpha):
    model, begin, _ = models()[kind]
    prefix = torch.full((3, 1), BOS)
    single = greedy(model, begin(ALL), prefix, steps=8, eos=EOS)
    beam = beam_search(model, begin(ALL), prefix, steps=8, width=1, eos=EOS, length_penalty=alpha)
    assert [rows[0] for rows in beam.lists()] == single.lists()
    torch.testing.assert_close(beam.log_prob[:, 0], single.log_prob)


def every_ending(V: int, steps: int, eos: int) -> list[list[int]]:
    """All outputs: those that end with ``eos``, and those cut off after ``steps`` tokens."""
    found = []
    for n in range(1, steps + 1):
        for tokens in product(range(V), repeat=n):
            open_ = eos not in tokens[:-1]
            if open_ and (tokens[-1] == eos or n == steps):
                found.append(list(tokens))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("early_stop", [True, False])
def test_a_beam_as_wide_as_the_number_of_outputs_is_exhaustive_search(seed, alpha, early_stop):
    V, steps, eos = 3, 4, 2
    model = Table(V, seed)

    def score(tokens):
        return model.log_prob([1], tokens) / ((5 + len(tokens)) / 6) ** alpha

    ranked = sorted(every_ending(V, steps, eos), key=score, reverse=True)
    found = beam_search(
        model,
        model.begin(),
        torch.tensor([[1]]),
        steps=steps,
        width=V**steps,
        eos=eos,
        length_penalty=alpha,
        early_stop=early_stop,
    )
    assert found.lists()[0][0] == ranked[0]
    assert float(found.scores[0, 0]) == pytest.approx(score(ranked[0]))
    if not early_stop:
        everything = [tokens for tokens in found.lists()[0] if tokens]
        assert sorted(everything) == sorted(ranked)
        assert found.scores[0, : len(ranked)].tolist() == pytest.approx([*map(score, ranked)])
        assert (found.scores[0, len(ranked) :] == float("-inf")).all()


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.0, 0.6, 1.2]))
@settings(max_examples=25, deadline=None)
def test_stopping_early_never_changes_the_best_hypothesis(seed, width, alpha):
    model = Table(5, seed, sharpness=2.0)
    results = [
        beam_search(
            model,
            model.begin(),
            torch.tensor([[1], [3]]),
            steps=6,
            width=width,
            eos=2,
            length_penalty=alpha,
            early_stop=early_stop,
        )
        for early_stop in (True, False)
    ]
    assert [rows[0] for rows in results[0].lists()] == [rows[0] for rows in results[1].lists()]
    torch.testing.assert_close(results[0].scores[:, 0], results[1].scores[:, 0])


def test_stopping_early_is_the_default_and_saves_steps():
    model, prefix, taken = Table(4), torch.tensor([[1]]), []
    model.logits[:] = torch.tensor([0.0, 0.0, 6.0, 0.0])  # the end is by far the likeliest
    for search in (
        lambda: beam_search(model, model.begin(), prefix, steps=12, width=3, eos=2),
        lambda: beam_search(
            model, model.begin(), prefix, steps=12, width=3, eos=2, early_stop=False
        ),
    ):
        model.steps = 0
        search()
        taken.append(model.steps)
    assert taken[0] < taken[1]


@pytest.mark.parametrize("width", [2, 5])
def test_every_hypothesis_has_the_log_probability_it_reports(width):
    model = Table(6, 3)
    found = beam_search(
        model,
        model.begin(),
        torch.tensor([[1], [4]]),
        steps=6,
        width=width,
        eos=2,
        early_stop=False,
    )
    for row, start in enumerate((1, 4)):
        written = found.lists()[row]
        assert len({tuple(tokens) for tokens in written}) == width
        for tokens, value in zip(written, found.log_prob[row], strict=True):
            assert float(value) == pytest.approx(model.log_prob([start], tokens))
            assert 2 not in tokens[:-1]
    assert (found.scores.diff(dim=1) <= 0).all()


def test_equal_hypotheses_come_in_the_order_of_their_tokens():
    model = Table(4)
    model.logits[:] = 0
    found = beam_search(
        model, model.begin(), torch.tensor([[1]]), steps=2, width=5, eos=3, early_stop=False
    )
    # "end at once" beats all pairs; of the equal pairs the slots keep the lowest numbers
    assert found.lists()[0] == [[3], [0, 0], [0, 1], [0, 2], [0, 3]]
    assert greedy(model, model.begin(), torch.tensor([[1]]), steps=3).lists() == [[0, 0, 0]]


def test_a_larger_length_penalty_favours_longer_outputs():
    model = Table(3)
    # ending at once has probability ½; going on, two sure steps and an end of probability ½
    model.logits[:] = -50.0
    model.logits[0, 1] = torch.tensor([0.0, -50.0, 0.0])
    model.logits[1, 0] = torch.tensor([0.0, -50.0, -50.0])
    model.logits[0, 0] = torch.tensor([-50.0, -50.0, -0.1])
    written = []
    for alpha in (0.0, 1.0):
        found = beam_search(
            model,
            model.begin(),
            torch.tensor([[1]]),
            steps=5,
            width=2,
            eos=2,
            length_penalty=alpha,
        )
        written.append(len(found.lists()[0][0]))
    assert written == [1, 3]
    values = length_normaliser(torch.tensor([1, 7, 13]), 0.5)
    torch.testing.assert_close(values, torch.tensor([1.0, 2.0, 3.0]).sqrt())


def test_coverage_adds_what_attention_left_out():
    model, begin, _ = models()[0]
    prefix = torch.full((3, 1), BOS)
    beta = 0.4
    found = beam_search(model, begin(ALL), prefix, steps=5, width=3, eos=EOS, coverage_penalty=beta)
    for row in range(3):
        for k, tokens in enumerate(found.lists()[row]):
            if not tokens:
                continue
            read = torch.tensor([[BOS, *tokens[:-1]]])
            one, n = slice(row, row + 1), int(LENGTHS[row])
            weights = model(SOURCE[one], read, LENGTHS[one])[1]
            covered = weights[0].sum(0)[:n].clamp(max=1.0).log().sum()
            expected = float(found.log_prob[row, k]) + beta * covered.item()
            assert float(found.scores[row, k]) == pytest.approx(expected)
    plain = beam_search(model, begin(ALL), prefix, steps=5, width=3, eos=EOS)
    assert not torch.allclose(plain.scores[:, 0], found.scores[:, 0])


def test_rows_end_at_their_end_token_and_padding_stands_behind():
    model = Table(5, 1, sharpness=2.0)
    found = sample(
        model,
        model.begin(),
        torch.ones(40, 1, dtype=torch.int64),
        steps=9,
        eos=2,
        pad=4,
        generator=torch.Generator().manual_seed(0),
    )
    assert len(set(found.lengths.tolist())) > 2
    for row, n, value in zip(found.tokens, found.lengths.tolist(), found.log_prob, strict=True):
        assert 2 not in row[: n - 1]
        assert row[n - 1] == 2 or n == 9
        assert (row[n:] == 4).all()
        assert float(value) == pytest.approx(model.log_prob([1], row[:n].tolist()))


@pytest.mark.parametrize(
    "cuts",
    [{}, {"temperature": 2.0}, {"top_k": 2}, {"top_p": 0.6}, {"temperature": 0.5, "top_k": 3}],
)
def test_drawn_frequencies_match_the_distribution(device, cuts):
    model = Table(5, 2)
    model.logits = model.logits.to(device)
    prefix = torch.ones(6000, 1, dtype=torch.int64, device=device)
    seed = torch.Generator(device).manual_seed(7)
    found = sample(model, model.begin(), prefix, steps=1, generator=seed, **cuts)
    share = torch.bincount(found.tokens[:, 0], minlength=5) / 6000
    expected = distribution(model.logits[0, 1], **cuts)
    assert (share[expected == 0] == 0).all()
    assert (share - expected).abs().max() < 0.03  # four deviations of 6000 draws at most: 0.026


def test_the_same_generator_draws_the_same_text():
    model, begin, _ = models()[2]
    prefix = torch.full((3, 1), BOS)
    first, again, other = (
        sample(model, begin(ALL), prefix, steps=8, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.tokens, other.tokens)


def plain_distribution(logits, temperature, top_k, top_p) -> list[float]:
    """The definition by loops over a sorted list."""
    weight = [math.exp(x / temperature) for x in logits]
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    if top_k is not None:
        order = order[:top_k]
    total = sum(weight[i] for i in order)
    if top_p is not None:
        kept, mass = [], 0.0
        for i in order:
            if kept and mass >= top_p:
                break
            kept.append(i)
            mass += weight[i] / total
        order, total = kept, sum(weight[i] for i in kept)
    return [weight[i] / total if i in order else 0.0 for i in range(len(logits))]


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=7, unique=True),
    st.sampled_from([0.5, 1.0, 3.0]),
    st.sampled_from([None, 1, 2, 5, 50]),
    st.sampled_from([None, 1e-6, 0.3, 0.77, 1.0]),
)
@settings(max_examples=80, deadline=None)
def test_the_distribution_is_its_definition(values, temperature, top_k, top_p):
    logits = [value / 4 for value in values]
    p = distribution(
        torch.tensor(logits, dtype=torch.float64),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
    )
    expected = plain_distribution(logits, temperature, top_k, top_p)
    torch.testing.assert_close(p, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_smallest_top_p_keeps_the_likeliest_token_and_temperature_zero_does_too():
    logits = torch.randn(4, 3, 6)
    likeliest = torch.nn.functional.one_hot(logits.argmax(-1), 6).float()
    assert torch.equal(distribution(logits, top_p=1e-9), likeliest)
    assert torch.equal(distribution(logits, temperature=0.0), likeliest)
    assert torch.equal(distribution(logits, top_k=1), likeliest)


def test_the_token_that_crosses_top_p_is_kept():
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    torch.testing.assert_close(distribution(logits, top_p=0.6), torch.tensor([0.625, 0.375, 0.0]))


def test_half_precision_logits_become_float32_probabilities_and_are_not_changed():
    logits = torch.randn(2, 7).bfloat16()
    before = logits.clone()
    p = distribution(logits, top_k=3, top_p=0.8)
    assert p.dtype == torch.float32
    torch.testing.assert_close(p.sum(-1), torch.ones(2))
    assert torch.equal(logits, before)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_lengths_in_a_narrow_dtype_decode_the_same(dtype):
    model = Table(4)
    prefix, lengths = torch.tensor([[1, 3], [3, 0]]), torch.tensor([2, 1])
    for decode in (greedy, lambda *given, **named: beam_search(*given, width=2, eos=2, **named)):
        found, wanted = (
            decode(model, model.begin(), prefix, steps=300, lengths=n)
            for n in (lengths.to(dtype), lengths)
        )
        assert torch.equal(found.tokens, wanted.tokens)
        assert torch.equal(found.lengths, wanted.lengths)


def test_a_top_p_of_one_cuts_nothing():
    logits = torch.zeros(50_000)
    logits[0] = 20.0
    assert int((distribution(logits, top_p=1.0) == 0).sum()) == 0
    torch.testing.assert_close(distribution(logits, top_p=1.0), logits.softmax(-1))
    assert int((distribution(logits, top_p=1.0, top_k=49_000) > 0).sum()) == 49_000


@pytest.mark.parametrize("temperature", [1e-4, 1e-40, 1e-300])
@pytest.mark.parametrize("cuts", [{}, {"top_k": 2}, {"top_p": 0.9}])
def test_the_smallest_temperature_leaves_the_likeliest_token(temperature, cuts):
    logits = torch.tensor([1000.0, -float("inf"), 999.0])
    assert distribution(logits, temperature=temperature, **cuts).tolist() == [1, 0, 0]


def test_nan_logits_are_never_hidden():
    assert distribution(torch.tensor([0.0, float("nan")]), top_k=1).isnan().any()
    model = Table(4)
    model.logits[:] = float("nan")
    prefix = torch.tensor([[1]])
    assert greedy(model, model.begin(), prefix, steps=3).log_prob.isnan().all()
    found = beam_search(model, model.begin(), prefix, steps=3, width=2, eos=2)
    assert found.scores[0, 0].isnan()


def call(**change):
    """Beam search on a table model, with one argument changed."""
    model = Table(4)
    given = {"prefix": torch.tensor([[1, 3]]), "steps": 2, "width": 2, "eos": 2, "pad": 0}
    given |= {"coverage_penalty": 0.0, "length_penalty": 0.0, "lengths": None} | change
    return beam_search(
        model,
        model.begin(),
        given["prefix"],
        steps=given["steps"],
        width=given["width"],
        eos=given["eos"],
        pad=given["pad"],
        coverage_penalty=given["coverage_penalty"],
        length_penalty=given["length_penalty"],
        lengths=given["lengths"],
    )


def alone(decode, **change):
    """Greedy decoding or sampling on a table model."""
    model = Table(4)
    return decode(model, model.begin(), torch.tensor([[1, 3]]), steps=2, **change)


TRAINING = DecoderOnly(SMALL)


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: call(width=0), "a width of at least 1, got 0"),
        (lambda: call(steps=0), "at least 1 step, got 0"),
        (lambda: call(eos=4), "eos 4 must be a token of the 4"),
        (lambda: call(pad=-1), "pad -1 must be a token of the 4"),
        (lambda: alone(greedy, eos=99), "eos 99 must be a token of the 4"),
        (lambda: alone(sample, eos=-1), "eos -1 must be a token of the 4"),
        (lambda: alone(greedy, pad=4), "pad 4 must be a token of the 4"),
        (lambda: call(length_penalty=-0.5), "cannot be negative, got -0.5 and 0.0"),
        (lambda: call(coverage_penalty=1.0), "this model keeps none"),
        (lambda: call(prefix=torch.tensor([1, 3])), r"at least 1 by 1, got \(2,\)"),
        (lambda: call(prefix=torch.zeros(1, 0, dtype=torch.int64)), r"got \(1, 0\)"),
        (lambda: call(prefix=torch.ones(1, 2)), "must hold integers, got torch.float32"),
        (lambda: call(lengths=torch.tensor([3])), "1 to 2, but run from 3 to 3"),
        (lambda: call(lengths=torch.tensor([0])), "run from 0 to 0"),
        (lambda: call(lengths=torch.tensor([1, 1])), "1 prefixes need 1 whole lengths"),
        (lambda: call(lengths=torch.tensor([1.0])), "got torch.float32"),
        (lambda: call(lengths=torch.tensor([True])), "got torch.bool"),
        (
            lambda: greedy(TRAINING, TRAINING.begin(), torch.tensor([[1]]), steps=1),
            "call model.eval",
        ),
        (lambda: distribution(torch.tensor([1, 2])), "must be floating point"),
        (lambda: distribution(torch.zeros(2, 0)), "at least 1 token"),
        (lambda: distribution(torch.zeros(2), temperature=-1.0), "negative, got -1.0"),
        (lambda: distribution(torch.zeros(2), top_k=0), "at least 1 token, got 0"),
        (lambda: distribution(torch.zeros(2), top_p=0.0), r"\(0, 1\], got 0.0"),
        (lambda: distribution(torch.zeros(2), top_p=1.5), r"\(0, 1\], got 1.5"),
    ],
)
def test_decoding_names_what_does_not_fit(build, message):
    with pytest.raises(ValueError, match=message):
        build()
