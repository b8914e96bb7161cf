"""Scores of a trained model on the test set."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from ladder.alignments import judge
from ladder.corpus import Corpus, Subwords
from ladder.writing import translate
from lookback import metrics

WIDTHS = {"greedy": 1, "beam": 5}
LONGEST = (8, 10, 12, 15)
"""Words of the longest source in each group but the last."""


def tokens(sentence: str) -> list[str]:
    """Lower-cased words and punctuation marks, one by one; *'s* and *n't* are cut off."""
    return re.findall(r"n't\b|'s\b|\w+?(?=n't\b)|\w+|[^\w\s]", sentence.lower())


def scores(written: Sequence[str], references: Sequence[str]) -> dict[str, metrics.Score]:
    """BLEU of cased text, of lower-cased text and of lower-cased tokens; chrF of cased text."""
    split = [[tokens(sentence) for sentence in side] for side in (written, references)]
    return {
        "bleu": metrics.bleu(written, references),
        "lower-cased bleu": metrics.bleu(written, references, lowercase=True),
        "token bleu": metrics.token_bleu(*split),
        "chrf": metrics.chrf(written, references),
    }


def resampled(
    written: Mapping[str, Sequence[str]], references: Sequence[str], *, baseline: str
) -> dict[str, dict[str, float]]:
    """How far a score of lower-cased tokens hangs on which captions the test set happens to have.

    Captions are drawn anew, with repetition, 1000 times (Koehn 2004), for every model the same.

    Returns:
        Model → ``"either way"``, half the width of the interval that holds 95 % of its scores, and
        ``"p"``, how likely a gap to the baseline as wide as the one seen would be by chance alone.
    """
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    first = [baseline, *(name for name in written if name != baseline)]
    joined = {
        name: [" ".join(tokens(text)) for text in texts]
        for name, texts in (*written.items(), ("", references))
    }
    test = PairedTest(
        [(name, joined[name]) for name in first],
        {"BLEU": BLEU(lowercase=True, tokenize="none", force=True)},
        [joined[""]],
        test_type="bs",
        n_samples=1000,
    )
    _, found = test()
    return {
        name: {"either way": float(result.ci), "p": float(result.p_value or 1.0)}
        for name, result in zip(first, found["BLEU"], strict=True)
    }


def by_length(
    sources: Sequence[str], written: Sequence[str], references: Sequence[str]
) -> dict[str, Any]:
    """BLEU of lower-cased tokens for groups of sources with as many words."""
    groups: dict[int, list[int]] = {}
    for n, source in enumerate(sources):
        length = len(source.split())
        groups.setdefault(sum(length > bound for bound in LONGEST), []).append(n)
    names = [f"to {LONGEST[0]}", *(f"{a + 1} to {b}" for a, b in pairwise(LONGEST))]
    names.append(f"from {LONGEST[-1] + 1}")
    present = sorted(groups)
    return {
        "words": [names[g] for g in present],
        "sentences": [len(groups[g]) for g in present],
        "mean words": [
            sum(len(sources[n].split()) for n in groups[g]) / len(groups[g]) for g in present
        ],
        "token bleu": [
            metrics.token_bleu(
                *([tokens(side[n]) for n in groups[g]] for side in (written, references))
            ).value
            for g in present
        ],
    }


def score(
    model: nn.Module, subwords: Subwords, corpus: Corpus, *, aligned: bool
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Everything that is measured of one trained model.

    Args:
        model: in evaluation mode.
        subwords: what it reads and writes.
        corpus: whose test set is translated.
        aligned: whether its alignments are judged, too.

    Returns:
        Figures by name, and the translations of each way to decode.
    """
    sources, references = (list(side) for side in zip(*corpus.test, strict=True))
    found, texts = {}, {}
    for name, width in WIDTHS.items():
        began = time.process_time()
        texts[name] = translate(model, subwords, sources, width=width)
        seconds = time.process_time() - began
        several = scores(texts[name], references)
        found[name] = {what: score.value for what, score in several.items()} | {
            "details": several["bleu"].details,
            "cpu seconds": seconds,
        }
        found["signatures"] = {what: score.signature for what, score in several.items()}
    found["by length"] = by_length(sources, texts["greedy"], references)
    if aligned:
        found["alignments"] = judge(model, subwords, corpus)
    return found, texts
