"""Scores: perplexity, BLEU and chrF, accuracy, and the error rate of an alignment.

Scores of tokens skip the positions whose target is ``ignore_index`` (padding), and every one is a
ratio of *totals* over a corpus, never a mean of means: cut the corpus into other batches and it
stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def token_nats(
    logits: Float[Tensor, "*batch N"], targets: Int[Tensor, "*batch"], *, ignore_index: int = -100
) -> tuple[float, int]:
    """Total cross-entropy of all scored tokens, in nats, and how many these are.

    Args:
        logits: scores of the ``N`` classes before softmax.
        targets: the right class, 0 to ``N`` − 1, or ``ignore_index``.
        ignore_index: target of positions that are not scored.

    Raises:
        ValueError: if the shapes do not fit, there is no class, targets are no integers, or one
            lies out of range.
    """
    if not logits.is_floating_point() or logits.ndim < 1 or not logits.shape[-1]:
        found = f"{logits.dtype} {tuple(logits.shape)}"
        raise ValueError(f"logits must be floating point, of 1 class or more, got {found}")
    _check_same_shape("logits", logits[..., 0], "targets", targets)
    scored = _scored(targets, ignore_index)
    right = targets[scored].long()
    N = logits.shape[-1]
    if right.numel() and not (0 <= int(right.min()) and int(right.max()) < N):
        found = f"{int(right.min())} to {int(right.max())}"
        raise ValueError(f"targets must lie in 0 to {N - 1} or be {ignore_index}, got {found}")
    # half precision would round a long sum: score in float32 at least
    logits = logits[scored].to(torch.promote_types(logits.dtype, torch.float32))
    return float(F.cross_entropy(logits, right, reduction="sum")), int(scored.sum())


def perplexity(
    logits: Float[Tensor, "*batch N"], targets: Int[Tensor, "*batch"], *, ignore_index: int = -100
) -> float:
    """exp(mean cross-entropy of a token): as uncertain as among that many equally likely ones.

    Args, Raises: as :func:`token_nats`; a ValueError too where no token is scored.
    """
    return corpus_perplexity([(logits, targets)], ignore_index=ignore_index)


def corpus_perplexity(
    batches: Iterable[tuple[Tensor, Tensor]], *, ignore_index: int = -100
) -> float:
    """Perplexity over many batches, each token with one weight whatever its batch.

    Args:
        batches: pairs ``(logits, targets)`` as :func:`token_nats` takes them, one after the other.
        ignore_index: target of positions that are not scored.

    Raises:
        ValueError: if shapes do not fit, a target is out of range, or no token is scored.
    """
    nats, count = 0.0, 0
    for logits, targets in batches:
        batch_nats, batch_count = token_nats(logits, targets, ignore_index=ignore_index)
        nats, count = nats + batch_nats, count + batch_count
    if not count:
        raise ValueError(f"perplexity needs a token to score: every target is {ignore_index}")
    try:
        return math.exp(nats / count)
    except OverflowError:
        return math.inf


def accuracy(
    predictions: Int[Tensor, "*batch"], targets: Int[Tensor, "*batch"], *, ignore_index: int = -100
) -> float:
    """Share of scored positions that are right.

    Raises:
        ValueError: if the shapes differ, targets are no integers, or no position is scored.
    """
    _check_same_shape("predictions", predictions, "targets", targets)
    scored = _scored(targets, ignore_index)
    if not scored.any():
        raise ValueError(f"accuracy needs a target to score: every one is {ignore_index}")
    return float((predictions == targets)[scored].double().mean())


def exact_match(
    predictions: Int[Tensor, "*batch T"],
    targets: Int[Tensor, "*batch T"],
    *,
    ignore_index: int = -100,
) -> float:
    """Share of sequences that are right at *every* scored position; padded-only ones do not count.

    Raises:
        ValueError: if the shapes differ, targets are no integers, or no sequence has a scored
            position.
    """
    _check_same_shape("predictions", predictions, "targets", targets)
    scored = _scored(targets, ignore_index)
    counted = scored.any(-1)
    if not counted.any():
        raise ValueError(f"exact match needs a target to score: every one is {ignore_index}")
    right = ((predictions == targets) | ~scored).all(-1)
    return float(right[counted].double().mean())


@dataclass(frozen=True)
class Score:
    """A corpus score with what another needs to repeat it.

    Attributes:
        value: 0 to 100.
        signature: sacreBLEU's line of settings and version.
        details: its parts, as sacreBLEU prints them (precisions, brevity penalty, lengths).
    """

    value: float
    signature: str
    details: str

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.signature})"


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    lowercase: bool = False,
    tokenize: str = "13a",
) -> Score:
    """Corpus BLEU of plain text (Papineni et al. 2002), as sacreBLEU counts it (Post 2018).

    Args:
        hypotheses: one translation a sentence, detokenised.
        references: one reference a sentence, or several.
        lowercase: whether capitals count.
        tokenize: sacreBLEU's tokeniser: ``"13a"``, ``"char"``, ``"zh"``, ``"none"``, …

    Raises:
        ValueError: if there are no sentences, the numbers differ, or the tokeniser is unknown.
    """
    from sacrebleu.metrics import BLEU

    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(sorted(BLEU.TOKENIZERS))
        raise ValueError(f"unknown tokeniser {tokenize!r}; choose one of {known}")
    # force: text that is tokenised on purpose must not be warned of
    return _corpus_score(
        BLEU(lowercase=lowercase, tokenize=tokenize, force=True), hypotheses, references
    )


def token_bleu(hypotheses: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Score:
    """Corpus BLEU of lower-cased tokens, one reference a sentence.

    What a model that reads and writes tokens is compared by when the text cannot be restored. It
    depends on the tokeniser: comparable only with figures that used the same one.

    Raises:
        ValueError: if there are no sentences, or the numbers differ.
    """
    joined = [[" ".join(tokens) for tokens in side] for side in (hypotheses, references)]
    return bleu(*joined, lowercase=True, tokenize="none")


def chrf(
    hypotheses: Sequence[str],
    references: Sequence[str] | Sequence[Sequence[str]],
    *,
    word_order: int = 0,
) -> Score:
    """Corpus chrF, the F-score of character n-grams (Popović 2015), as sacreBLEU counts it.

    Args:
        hypotheses, references: as :func:`bleu`.
        word_order: longest word n-gram counted as well: 0 for chrF, 2 for chrF++.

    Raises:
        ValueError: if there are no sentences, the numbers differ, or ``word_order`` is negative.
    """
    from sacrebleu.metrics import CHRF

    if word_order < 0:
        raise ValueError(f"the word order cannot be negative, got {word_order}")
    return _corpus_score(CHRF(word_order=word_order), hypotheses, references)


def alignment_error_rate(
    links: Bool[Tensor, "*batch T S"],
    sure: Bool[Tensor, "*batch T S"],
    possible: Bool[Tensor, "*batch T S"] | None = None,
) -> float:
    """Alignment error rate (Och and Ney 2003): 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|).

    0 where every sure link was found and nothing but possible ones. Links are counted over the
    whole batch. A row that has no gold link at all (a separator, the end token) counts every link
    predicted for it as an error: close such rows in ``links`` if they are not to be judged.

    Args:
        links: predicted links A: True where target ``t`` is linked to source ``s``.
        sure: links S that must be found.
        possible: links P that may be found, among them all sure ones; ``sure`` when left out.

    Raises:
        ValueError: if shapes differ, these are not boolean, a sure link is not possible, or there
            is neither a predicted nor a sure link.
    """
    possible = sure if possible is None else possible
    for name, x in {"links": links, "sure": sure, "possible": possible}.items():
        if x.dtype != torch.bool:
            raise ValueError(f"{name} must be boolean, got {x.dtype}")
        _check_same_shape("links", links, name, x)
    if (sure & ~possible).any():
        count = int((sure & ~possible).sum())
        raise ValueError(f"every sure link must be possible too, but {count} are not")
    size = int(links.sum()) + int(sure.sum())
    if not size:
        raise ValueError("there is neither a predicted nor a sure link to judge")
    return 1 - (int((links & sure).sum()) + int((links & possible).sum())) / size


def strongest_links(
    weights: Float[Tensor, "*batch T S"], rows: Bool[Tensor, "*batch T"] | None = None
) -> Bool[Tensor, "*batch T S"]:
    """The alignment that attention weights draw: each target linked to its largest weight.

    Args:
        weights: attention weights; of equal ones the first counts. An all-zero row has no link.
        rows: True at targets that are to be linked; all when left out.

    Raises:
        ValueError: if ``rows`` does not fit the weights, or there is no source.
    """
    if weights.ndim < 2 or not weights.shape[-1]:
        raise ValueError(f"weights must be (…, T, S) with S of 1 or more, got {weights.shape}")
    best = F.one_hot(weights.argmax(-1), weights.shape[-1]).bool()
    best = best & (weights != 0).any(-1, keepdim=True)
    if rows is None:
        return best
    _check_same_shape("weights", weights[..., 0], "rows", rows)
    return best & rows[..., None]


def _corpus_score(metric, hypotheses, references) -> Score:
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise ValueError("a corpus is a list of sentences, not one string")
    if not hypotheses:
        raise ValueError("an empty corpus has no score")
    if len(hypotheses) != len(references):
        raise ValueError(f"there are {len(hypotheses)} hypotheses but {len(references)} references")
    several = [[r] if isinstance(r, str) else list(r) for r in references]
    if not all(several):
        raise ValueError("every hypothesis needs at least one reference")
    # sacreBLEU wants a list of all first references, a list of all second ones, …
    streams = [
        [r[n] if n < len(r) else None for r in several] for n in range(max(map(len, several)))
    ]
    result = metric.corpus_score(list(hypotheses), streams)
    return Score(float(result.score), str(metric.get_signature()), str(result))


def _scored(targets: Tensor, ignore_index: int) -> Tensor:
    """True at targets that are scored."""
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"targets must be integers, got {targets.dtype}")
    return targets.long() != ignore_index  # in 8 bits, 156 would equal -100


def _check_same_shape(name: str, x: Tensor, other: str, y: Tensor) -> None:
    if x.shape != y.shape:
        raise ValueError(f"{name} {tuple(x.shape)} and {other} {tuple(y.shape)} must be one shape")
