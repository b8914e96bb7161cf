"""Which English word became which French one, in ten captions and two sentences of the course.

Drawn by hand, as pairs ``source-target`` of word numbers from 0. A link is *sure* where one word
translates the other, *possible* where the other only decides its form, as a noun decides its
article and the ending of its adjective (Och & Ney 2003). Words are those of :func:`words_of`:
punctuation stands alone. The captions are named by their line in the test set.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

CAPTIONS = {  # line of the test set → sure links; possible ones
    66: ("0-0 2-1 1-2 3-3 4-4 5-5 6-6 8-7 7-9 9-10", "2-0 2-2 4-3 8-6 7-8"),
    112: ("0-0 2-1 1-2 4-3 5-4 6-5 7-6 8-9 9-10", "2-0 2-2 3-3 6-4 8-7 8-8"),
    119: ("0-0 2-1 1-2 4-3 5-4 6-5 7-6 8-7", "2-2 3-3 7-5"),
    152: ("0-0 1-1 3-2 4-3 5-4 7-5 6-6 8-7", "1-0 2-2 7-3 7-4 7-6"),
    166: ("0-0 1-1 2-2 3-3 4-4 5-5 7-6 6-7 8-8", "1-0 7-5 7-7"),
    292: ("0-0 1-1 2-2 5-3 4-4 6-6 7-7 8-8 9-9 10-10", "1-0 1-6 3-2 3-3 5-4 6-5 9-8"),
    358: ("0-0 1-1 2-2 5-3 4-4 7-5 8-6 9-7 10-8", "1-0 3-2 3-3 5-4 6-5 9-6"),
    363: ("0-0 2-1 1-2 4-3 5-4 8-6 7-7 7-8 9-9", "2-0 2-2 3-3 6-5 8-5 8-8"),
    856: ("0-0 2-1 1-2 3-3 4-4 5-5 7-6 6-7 8-8", "2-0 2-2 7-5 7-7"),
    932: ("0-0 2-1 1-2 1-3 3-4 4-5 5-6 7-7 6-8 8-9", "2-0 7-6 7-8"),
}
SENTENCES = {  # English and French → sure links; possible ones
    ("A blue car.", "Une voiture bleue."): ("0-0 2-1 1-2 3-3", "2-0 2-2"),
    ("The cat sat on the mat.", "Le chat était assis sur le tapis."): (
        "0-0 1-1 2-3 3-4 4-5 5-6 6-7",
        "1-0 1-3 2-2 5-5",
    ),
}


def table(links: str, T: int, S: int) -> Bool[Tensor, "T S"]:
    """True where a target word (row) is linked to a source word (column).

    Raises:
        ValueError: if a link points outside the sentence.
    """
    found = torch.zeros(T, S, dtype=torch.bool)
    for link in links.split():
        s, t = map(int, link.split("-"))
        if not (0 <= s < S and 0 <= t < T):
            raise ValueError(f"the link {link} lies outside {S} source and {T} target words")
        found[t, s] = True
    return found
