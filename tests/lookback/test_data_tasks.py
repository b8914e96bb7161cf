"""The synthetic tasks: what they promise holds for every example, and a seed fixes them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookback.data import adding, agreement, copying, recall, reversal, seeds
from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD

SAMPLES = {
    "adding": lambda seed: adding.sample(5, 9, seed=seed),
    "copying": lambda seed: copying.sample(5, seed=seed),
    "recall": lambda seed: recall.sample(5, load=3, distance=(2, 9), seed=seed),
    "reversal": lambda seed: (lambda r: (*r.batch, r.links))(reversal.sample(5, seed=seed)),
    "agreement": lambda seed: agreement.sample(5, distance=(5, 9), depth=2, seed=seed),
}


@pytest.mark.parametrize("task", SAMPLES)
def test_a_seed_gives_the_same_sample_again_and_a_generator_moves_on(task, device):
    first, again, other = (SAMPLES[task](seed) for seed in (7, 7, 8))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    generator = torch.Generator(device).manual_seed(7)
    moving, moved = SAMPLES[task](generator), SAMPLES[task](generator)
    assert moving[0].device.type == device.type
    assert not torch.equal(moving[0], moved[0])
    if device.type == "cpu":
        assert torch.equal(moving[0], first[0])


def test_the_global_random_state_is_neither_read_nor_moved():
    before = torch.get_rng_state()
    samples = [SAMPLES[task](3) for task in SAMPLES]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    for sample, task in zip(samples, SAMPLES, strict=True):
        assert torch.equal(sample[0], SAMPLES[task](3)[0])


@given(
    st.integers(1, 5), st.integers(1, 9), st.integers(0, 6), st.booleans(), st.integers(0, 2**31)
)
@settings(max_examples=30, deadline=None)
def test_recall_holds_every_pair_once_and_the_answer_at_its_distance(
    load, low, more, overwrite, seed
):
    overwrite = overwrite and load > 1
    distance = (low, low + more)
    tokens, target, position = recall.sample(
        20, load=load, distance=distance, keys=6, values=5, overwrite=overwrite, seed=seed
    )
    T = tokens.shape[1] - 1
    assert T == low + more + 2 * load - 1
    for row, answer, place in zip(tokens.tolist(), target.tolist(), position.tolist(), strict=True):
        assert low <= T - place <= low + more
        keys = [t for t in range(T) if 1 <= row[t] <= 6]
        assert len(keys) == load
        assert all(row[t + 1] > 6 for t in keys)
        assert row[:T].count(recall.FILLER) == T - 2 * load
        assert row[T] == row[place - 1]
        assert row[place] == answer
        same = [t for t in keys if row[t] == row[T]]
        assert len({row[t] for t in keys}) == load - overwrite
        assert len(same) == 1 + overwrite
        assert max(same) == place - 1  # the last writing counts
        if overwrite:
            assert row[min(same) + 1] != answer


def test_recall_sets_distance_and_load_apart_at_one_length():
    for load in (1, 4):
        for distance in (1, 20):
            tokens, _, position = recall.sample(30, load=load, distance=distance, length=30)
            assert tokens.shape == (30, 31)
            assert (30 - position == distance).all()
    # the other pairs stand on both sides of the answer, so its place among them tells nothing
    tokens, _, position = recall.sample(400, load=3, distance=15, length=30)
    keyed = (tokens[:, :-1] > 0) & (tokens[:, :-1] <= 16)
    after = (keyed & (torch.arange(30) > position[:, None])).sum(1)
    assert set(after.tolist()) == {0, 1, 2}


@given(st.integers(2, 12), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_adding_marks_one_number_in_each_half_and_asks_for_their_sum(T, seed):
    x, y = adding.sample(10, T, seed=seed, dtype=torch.float64)
    numbers, marks = x.unbind(-1)
    assert (marks[:, : T // 2].sum(1) == 1).all()
    assert (marks[:, T // 2 :].sum(1) == 1).all()
    assert ((numbers >= 0) & (numbers < 1)).all()
    torch.testing.assert_close(y, (numbers * marks).sum(1))


def test_the_guess_for_adding_is_the_error_of_answering_one():
    y = adding.sample(20_000, 6).y
    assert (y - 1).square().mean().item() == pytest.approx(adding.GUESS, rel=0.03)


def test_copying_asks_for_each_symbol_length_plus_delay_steps_later():
    tokens, targets = copying.sample(6, length=3, delay=5, symbols=4)
    assert tokens.shape == targets.shape == (6, 11)
    torch.testing.assert_close(targets[:, 8:], tokens[:, :3])
    assert (targets[:, :8] == IGNORE).all()
    assert (tokens[:, 7] == copying.GO).all()
    assert (tokens[:, [3, 4, 5, 6, 8, 9, 10]] == copying.BLANK).all()
    assert ((tokens[:, :3] >= copying.FIRST) & (tokens[:, :3] < copying.FIRST + 4)).all()
    with_blanks = copying.sample(6, length=3, delay=5, symbols=4, blanks=True)
    assert (with_blanks.targets[:, :8] == copying.BLANK).all()


@pytest.mark.parametrize("blanks", [False, True])
def test_the_guess_for_copying_is_the_loss_of_uniform_symbols_and_certain_blanks(blanks):
    sizes = {"length": 3, "delay": 5, "symbols": 4, "blanks": blanks}
    targets = copying.sample(10, **sizes).targets
    certain = torch.nn.functional.one_hot(targets.clamp_min(0), 6).double().log()
    uniform = torch.full((6,), -math.inf).double()
    uniform[copying.FIRST :] = -math.log(4)
    log_probabilities = torch.where((targets == copying.BLANK)[..., None], certain, uniform)
    loss = torch.nn.functional.nll_loss(
        log_probabilities.flatten(0, 1), targets.flatten(), ignore_index=IGNORE
    )
    assert copying.guess(**sizes) == pytest.approx(loss.item())


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_reversal_pads_ends_and_links_every_output_to_the_input_it_copies(low, more, seed):
    batch, links = reversal.sample(8, length=(low, low + more), symbols=4, seed=seed)
    S = batch.source.shape[1]
    assert batch.target.shape == batch.decoder_input.shape == (8, S + 1)
    for n, L in enumerate(batch.source_lengths.tolist()):
        assert low <= L <= low + more
        symbols = batch.source[n, :L].tolist()
        assert all(reversal.FIRST <= s < reversal.FIRST + 4 for s in symbols)
        assert batch.source[n, L:].tolist() == [PAD] * (S - L)
        assert batch.target[n].tolist() == [*reversed(symbols), EOS, *[IGNORE] * (S - L)]
        assert batch.decoder_input[n].tolist() == [BOS, *reversed(symbols), *[PAD] * (S - L)]
        for t in range(S + 1):
            linked = links[n, t].nonzero().flatten().tolist()
            assert linked == ([L - 1 - t] if t < L else [])


@given(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_agreement_closes_its_subjects_in_reverse_with_the_first_at_its_distance(
    depth, low, more, seed
):
    low += 3 * depth - 2
    tokens, targets = agreement.sample(
        20, distance=(low, low + more), depth=depth, distractors=0.5, seed=seed
    )
    T = tokens.shape[1]
    assert T == low + more + 2
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        nouns = [t for t in range(T) if row[t] < agreement.NOUNS]
        markers = [t for t in range(T) if row[t] == agreement.THAT]
        subjects = [nouns[0], *(t + 1 for t in markers)]
        assert low <= T - 1 - subjects[0] <= low + more
        assert len(subjects) == depth
        assert row[-depth:] == [agreement.VERB] * depth
        assert row.count(agreement.VERB) == depth
        plural = [int(row[t] >= len(agreement.SINGULAR)) for t in subjects]
        assert target[-depth:] == plural[::-1]
        assert target[:-depth] == [IGNORE] * (T - depth)


def test_agreement_has_the_share_of_distractors_it_was_asked_for_and_both_numbers():
    plain = agreement.sample(200, distance=20, distractors=0.0)
    assert ((plain.tokens < agreement.NOUNS).sum(1) == 1).all()
    noisy = agreement.sample(500, distance=20, distractors=0.25)
    between = noisy.tokens[:, 2:-1]
    assert (between < agreement.NOUNS).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert noisy.targets[:, -1].double().mean().item() == pytest.approx(0.5, abs=0.1)
    both = (between >= len(agreement.SINGULAR)) & (between < agreement.NOUNS)
    assert both.double().mean().item() == pytest.approx(0.125, abs=0.02)


def test_a_sentence_reads_as_words_with_a_gap_for_the_verb():
    tokens = agreement.sample(1, distance=3, distractors=0.0, seed=1).tokens[0]
    words = agreement.sentence(tokens).split()
    assert len(words) == 5
    assert words[1] in agreement.SINGULAR + agreement.PLURAL
    assert words[-1] == "___"


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: adding.sample(0, 5), "n must be at least 1, got 0"),
        (lambda: adding.sample(1, 1), "a length of at least 2, got 1"),
        (lambda: adding.sample(1, 5, seed="x"), "an integer or a torch.Generator, got 'x'"),
        (lambda: seeds.generator(True), "an integer or a torch.Generator, got True"),
        (lambda: copying.sample(1, delay=0), "delay must be at least 1, got 0"),
        (lambda: copying.guess(symbols=0), "symbols must be at least 1, got 0"),
        (lambda: reversal.sample(1, length=(5, 4)), "length must be 1 or more, .* 5 to 4"),
        (lambda: reversal.sample(1, length=0), "length must be 1 or more, .* 0 to 0"),
        (lambda: recall.sample(1, load=0, distance=1), "load must be at least 1, got 0"),
        (lambda: recall.sample(1, load=5, distance=1, keys=4), "5 pairs .* keys, got 4"),
        (lambda: recall.sample(1, load=1, distance=0), "distance must be 1 or more"),
        (lambda: recall.sample(1, load=1, distance=5, length=5), "needs 6 tokens, got 5"),
        (lambda: recall.sample(1, load=4, distance=5, length=7), "4 pairs do not fit: .* hold 2"),
        (
            lambda: recall.sample(1, load=1, distance=5, overwrite=True),
            "overwriting needs 2 pairs and 2 values, got 1 and 16",
        ),
        (
            lambda: recall.sample(1, load=2, distance=5, length=6, overwrite=True),
            "leaves no room before it in 6 tokens",
        ),
        (lambda: agreement.sample(1, distance=3, depth=2), "distance must be 4 or more"),
        (lambda: agreement.sample(1, distance=3, distractors=1.5), r"\[0, 1\], got 1.5"),
        (lambda: agreement.sentence(torch.tensor([3, 42])), "42 is no token: there are 42 words"),
    ],
)
def test_tasks_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
