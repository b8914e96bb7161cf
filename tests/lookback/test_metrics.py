"""Scores against torch, sacreBLEU and counts made by hand."""

from __future__ import annotations

import math

import pytest
import sacrebleu
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lookback.metrics import (
    accuracy,
    alignment_error_rate,
    bleu,
    chrf,
    corpus_perplexity,
    exact_match,
    perplexity,
    strongest_links,
    token_bleu,
    token_nats,
)

IGNORE = -100


def some_tokens(seed: int, n: int = 24, classes: int = 7):
    """Logits and targets, a third of them padding."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (n,), generator=generator)
    targets[torch.rand(n, generator=generator) < 0.33] = IGNORE
    targets[0] = 3
    return torch.randn(n, classes, generator=generator, dtype=torch.float64), targets


@given(st.integers(0, 2**31), st.integers(1, 23))
@settings(max_examples=15, deadline=None)
def test_perplexity_is_exp_of_torchs_cross_entropy_however_the_corpus_is_cut(seed, cut):
    logits, targets = some_tokens(seed)
    expected = F.cross_entropy(logits, targets, ignore_index=IGNORE).exp().item()
    assert perplexity(logits, targets) == pytest.approx(expected)
    assert perplexity(logits.view(4, 6, 7), targets.view(4, 6)) == pytest.approx(expected)
    batches = [(logits[:cut], targets[:cut]), (logits[cut:], targets[cut:])]
    assert corpus_perplexity(batches) == pytest.approx(expected)


def test_perplexity_of_equal_logits_is_the_number_of_classes_and_padding_adds_nothing(device):
    logits, targets = torch.zeros(2, 3, 5, device=device), torch.ones(2, 3, dtype=torch.long)
    assert perplexity(logits, targets.to(device)) == pytest.approx(5)
    logits[:, 2] = 1e3 * torch.arange(5.0)
    targets[:, 2] = 0
    assert perplexity(logits, targets.to(device), ignore_index=0) == pytest.approx(5)


def test_nats_are_summed_in_float32_where_logits_are_half_precision():
    logits, targets = torch.zeros(5000, 4, dtype=torch.bfloat16), torch.zeros(5000).long()
    nats, count = token_nats(logits, targets)
    assert count == 5000
    assert nats == pytest.approx(5000 * math.log(4), rel=1e-5)


@pytest.mark.usefixtures("no_shape_checks")
def test_narrow_integers_are_scored_as_wide_ones():
    targets = torch.tensor([156, 3], dtype=torch.uint8)  # in 8 bits, 156 is also -100
    assert perplexity(torch.zeros(2, 200), targets) == pytest.approx(200)
    assert token_nats(torch.zeros(2, 200), targets)[1] == 2
    predictions = torch.tensor([0, 3], dtype=torch.uint8)
    assert accuracy(predictions, targets) == 0.5
    assert exact_match(predictions, targets) == 0


def test_perplexity_shows_nan_and_overflows_to_infinity():
    targets = torch.zeros(2).long()
    assert math.isnan(perplexity(torch.full((2, 3), float("nan")), targets))
    assert perplexity(torch.tensor([[-1e4, 0.0]] * 2), targets) == math.inf


def test_accuracy_counts_tokens_and_exact_match_sequences():
    targets = torch.tensor([[1, 2, IGNORE], [3, 4, 5], [IGNORE] * 3, [6, IGNORE, IGNORE]])
    predictions = torch.tensor([[1, 2, 9], [3, 4, 9], [9, 9, 9], [6, 9, 9]])
    assert accuracy(predictions, targets) == pytest.approx(5 / 6)
    assert exact_match(predictions, targets) == pytest.approx(2 / 3)
    assert exact_match(predictions[1], targets[1]) == 0.0
    assert accuracy(predictions[3], targets[3], ignore_index=6) == 0.0


HYPOTHESES = ["the Cat sat on the mat.", "a dog, running"]
REFERENCES = ["The cat sat on the mat.", "a dog runs"]


def test_bleu_and_chrf_are_sacrebleus_with_a_signature_to_repeat_them():
    score = bleu(HYPOTHESES, REFERENCES)
    assert score.value == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert "case:mixed" in score.signature
    assert "tok:13a" in score.signature
    assert f"version:{sacrebleu.__version__}" in score.signature
    assert "BP" in score.details
    assert str(score) == f"{score.value:.2f} ({score.signature})"
    for order in (0, 2):
        expected = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES], word_order=order)
        assert chrf(HYPOTHESES, REFERENCES, word_order=order).value == expected.score


def test_bleu_lowers_case_only_when_asked_and_reads_several_references():
    lower = bleu(HYPOTHESES, REFERENCES, lowercase=True)
    assert lower.value > bleu(HYPOTHESES, REFERENCES).value
    assert "case:lc" in lower.signature
    several = [[REFERENCES[0]], [REFERENCES[1], "a dog , running"]]
    streams = [[REFERENCES[0], several[1][0]], [None, several[1][1]]]
    expected = sacrebleu.corpus_bleu(HYPOTHESES, streams, lowercase=True).score
    assert bleu(HYPOTHESES, several, lowercase=True).value == expected > lower.value


def test_bleu_clips_repeated_words():
    # "the the the the": of four unigrams the reference's two count, and no bigram does
    score = bleu(["the the the the"], ["the cat on the mat"])
    assert score.details.split("= ")[1].startswith(f"{score.value:.2f} 50.0/")


def test_token_bleu_takes_tokens_as_they_are_and_ignores_capitals():
    hypotheses = [["The", "cat", "isn't", "here", "."], ["a", "b", "c", "d"]]
    references = [["the", "cat", "isn't", "here", "."], ["a", "b", "c", "e"]]
    score = token_bleu(hypotheses, references)
    joined = [[" ".join(s).lower() for s in side] for side in (hypotheses, references)]
    expected = sacrebleu.corpus_bleu(joined[0], [joined[1]], tokenize="none", force=True)
    assert score.value == expected.score
    assert "tok:none" in score.signature
    assert token_bleu(references, references).value == pytest.approx(100)


def test_alignment_error_rate_matches_a_count_by_hand():
    sure = torch.tensor([[True, False, False], [False, False, False], [False, False, True]])
    possible = sure | torch.tensor([[False] * 3, [True, True, False], [False] * 3])
    links = torch.tensor([[True, False, False], [False, True, False], [True, False, False]])
    # A = 3, S = 2, A ∩ S = 1, A ∩ P = 2
    assert alignment_error_rate(links, sure, possible) == pytest.approx(1 - 3 / 5)
    assert alignment_error_rate(sure, sure, possible) == 0.0
    assert alignment_error_rate(sure | possible, sure, possible) == 0.0
    assert alignment_error_rate(~possible, sure, possible) == 1.0
    assert alignment_error_rate(links, sure) == pytest.approx(1 - 2 / 5)
    # totals over the batch, not a mean of rates
    both = alignment_error_rate(torch.stack([links, sure]), torch.stack([sure, sure]))
    assert both == pytest.approx(1 - (2 + 4) / (5 + 4))


def test_the_strongest_weight_of_each_row_is_its_link_and_an_empty_row_has_none():
    weights = torch.tensor([[[0.2, 0.7, 0.1], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0], [0.1, 0.1, 0.8]]])
    links = strongest_links(weights, torch.tensor([[True, True, True, False]]))
    expected = torch.zeros(1, 4, 3, dtype=torch.bool)
    expected[0, 0, 1] = expected[0, 1, 0] = True
    assert torch.equal(links, expected)
    expected[0, 3, 2] = True
    assert torch.equal(strongest_links(weights), expected)


logits, ids, yes = torch.zeros(2, 3), torch.zeros(2).long(), torch.ones(2, 3).bool()


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: perplexity(logits, ids[:1]), r"logits \(2,\) and targets \(1,\)"),
        (lambda: perplexity(logits, ids + 3), "0 to 2 or be -100, got 3 to 3"),
        (lambda: perplexity(logits, ids - 1), "got -1 to -1"),
        (lambda: perplexity(logits.long(), ids), "logits must be floating point"),
        (lambda: perplexity(logits[:, :0], ids), r"of 1 class or more, got .* \(2, 0\)"),
        (lambda: perplexity(logits, ids.float()), "targets must be integers, got torch.float32"),
        (lambda: perplexity(logits, ids.bool()), "targets must be integers, got torch.bool"),
        (lambda: accuracy(ids, ids.float()), "targets must be integers, got torch.float32"),
        (lambda: exact_match(ids, ids.bool()), "targets must be integers, got torch.bool"),
        (lambda: perplexity(logits, ids, ignore_index=0), "every target is 0"),
        (lambda: corpus_perplexity([]), "needs a token to score"),
        (lambda: accuracy(ids, ids[:1]), "must be one shape"),
        (lambda: accuracy(ids, ids, ignore_index=0), "every one is 0"),
        (lambda: exact_match(ids, ids[:1]), "must be one shape"),
        (lambda: exact_match(ids, ids, ignore_index=0), "every one is 0"),
        (lambda: bleu([], []), "an empty corpus has no score"),
        (lambda: bleu(["a"], ["a", "b"]), "1 hypotheses but 2 references"),
        (lambda: bleu("a", ["a"]), "a list of sentences, not one string"),
        (lambda: bleu(["a"], [[]]), "at least one reference"),
        (
            lambda: bleu(["a"], ["a"], tokenize="best"),
            "unknown tokeniser 'best'; choose",
        ),
        (lambda: chrf(["a"], ["a"], word_order=-1), "cannot be negative, got -1"),
        (lambda: alignment_error_rate(yes, yes.long()), "sure must be boolean, got torch.int64"),
        (lambda: alignment_error_rate(yes, yes[:1]), r"links \(2, 3\) and sure \(1, 3\)"),
        (lambda: alignment_error_rate(yes, yes, ~yes), "but 6 are not"),
        (lambda: alignment_error_rate(~yes, ~yes), "neither a predicted nor a sure link"),
        (lambda: strongest_links(logits[:, :0]), "S of 1 or more"),
        (lambda: strongest_links(logits, yes[0]), r"weights \(2,\) and rows \(3,\)"),
    ],
)
def test_scores_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
