"""Subject–verb agreement: the verb takes the number of a noun that may stand far before it.

"The cat, which already ate a bowl of milk, was full": fillers and distracting nouns lie between.
Nested, a sentence opens several subjects and closes them in reverse ("the keys that the man …").
After Linzen et al. 2016. Drawn at random from a small made-up lexicon, of any size; no licence
needed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lookback.data.seeds import Seed, between, check_count, generator, span
from lookback.data.vocabulary import IGNORE

SINGULAR = ("cat", "dog", "key", "man", "book", "child", "bird", "film", "tree", "boat")
PLURAL = ("cats", "dogs", "keys", "men", "books", "children", "birds", "films", "trees", "boats")
FILLERS = (
    *("already", "often", "quietly", "near", "under", "beside", "very", "almost", "still", "old"),
    *("green", "small", "behind", "slowly", "again", "early", "inside", "rather", "soft", "late"),
)
WORDS = (*SINGULAR, *PLURAL, *FILLERS, "that", "___")
"""Every token as a word; the last one is the gap that a verb fills."""
NOUNS = len(SINGULAR) + len(PLURAL)
THAT, VERB = WORDS.index("that"), WORDS.index("___")


class Agreement(NamedTuple):
    """Both ``(n, T)``, tokens over ``len(WORDS)`` classes.

    ``targets`` is 0 (singular) or 1 (plural) where a verb stands, ``IGNORE`` elsewhere. The last
    ``depth`` tokens are verbs; the last of all belongs to the first subject.
    """

    tokens: Int[Tensor, "n T"]
    targets: Int[Tensor, "n T"]


def sample(
    n: int,
    *,
    distance: int | tuple[int, int],
    depth: int = 1,
    distractors: float = 0.3,
    seed: Seed = 0,
) -> Agreement:
    """Draw ``n`` sentences whose first subject stands ``distance`` steps before its verb.

    The subject is the first noun of all; an inner one follows a "that". All sentences have one
    length, the longest distance + 2, with fillers in front.

    Args:
        n: number of examples.
        distance: steps from the first subject to the last verb; a pair is a range, both ends
            included, drawn for each example.
        depth: subjects, each with a verb of its own, closed in reverse. Needs a distance of
            3 · depth − 2 or more.
        distractors: share of the words between that are nouns without a verb, of either number.
        seed: an integer, or a generator that moves on.

    Raises:
        ValueError: if a size is below 1, the distance too short for the depth, or the share
            outside [0, 1].
    """
    check_count(n, depth=depth)
    low, high = span("distance", distance, 3 * depth - 2)
    if not 0 <= distractors <= 1:
        raise ValueError(f"the share of distractors must lie in [0, 1], got {distractors}")
    source = generator(seed)
    T = high + 2
    subject = T - 1 - between(low, high, (n,), source)
    plural = between(0, 1, (n, depth), source)
    nouns = between(0, len(SINGULAR) - 1, (n, depth), source) + len(SINGULAR) * plural
    tokens = between(NOUNS, NOUNS + len(FILLERS) - 1, (n, T), source)
    place = torch.arange(T, device=source.device)
    noise = torch.rand(n, T, generator=source, device=source.device) < distractors
    noise &= place > subject[:, None]
    tokens = torch.where(noise, between(0, NOUNS - 1, (n, T), source), tokens)
    inner = _inner_places(subject, T, depth, source)  # n depth-1, where each "that" stands
    tokens.scatter_(1, inner, THAT)
    tokens.scatter_(1, torch.cat([subject[:, None], inner + 1], 1), nouns)
    targets = torch.full_like(tokens, IGNORE)
    tokens[:, -depth:] = VERB
    targets[:, -depth:] = plural.flip(1)  # the subject opened last is closed first
    return Agreement(tokens, targets)


def sentence(tokens: Int[Tensor, " T"]) -> str:
    """The words of one example.

    Raises:
        ValueError: if a token is no word's.
    """
    wrong = [t for t in tokens.tolist() if not 0 <= t < len(WORDS)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no token: there are {len(WORDS)} words")
    return " ".join(WORDS[t] for t in tokens.tolist())


def _inner_places(subject: Tensor, T: int, depth: int, source: torch.Generator) -> Tensor:
    """Places for ``depth − 1`` pairs "that noun" between first subject and verbs, none overlapping.

    Different places among the free ones left when every pair counts as one, then spread apart.
    """
    room = T - depth - (subject + 1) - (depth - 1)  # n
    priority = torch.rand(len(subject), T, generator=source, device=source.device)
    priority = priority.masked_fill(torch.arange(T, device=source.device) >= room[:, None], 2.0)
    chosen = priority.argsort(1)[:, : depth - 1].sort(1).values
    return subject[:, None] + 1 + chosen + torch.arange(depth - 1, device=source.device)
