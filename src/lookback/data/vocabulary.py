"""Tokens and their numbers, with the four special ones first."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

PAD, BOS, EOS, UNK = range(4)
SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>")
IGNORE = -100
"""Target of positions that no loss and no score counts: torch's own default."""


class Vocabulary:
    """A two-way table of tokens and numbers.

    ``<pad>`` is 0, ``<bos>`` 1, ``<eos>`` 2 and ``<unk>`` 3; the given tokens follow in their
    order. Text cannot forge a special token: its name, where it occurs as a token, is unknown.

    Args:
        tokens: the ordinary tokens, each once.

    Raises:
        ValueError: if a token occurs twice or has the name of a special one.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        twice = [token for token, count in Counter(tokens).items() if count > 1]
        if twice:
            raise ValueError(f"{len(twice)} tokens occur more than once, the first {twice[0]!r}")
        reserved = sorted(set(tokens) & set(SPECIALS))
        if reserved:
            raise ValueError(f"{reserved[0]!r} is the name of a special token")
        self.tokens = (*SPECIALS, *tokens)
        self._ids = {token: len(SPECIALS) + n for n, token in enumerate(tokens)}

    @classmethod
    def build(
        cls,
        sequences: Iterable[Sequence[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """The vocabulary of a corpus: the most frequent tokens first, equal ones by code point.

        Args:
            sequences: the corpus, tokenised. A string is a sequence of characters.
            min_count: how often a token must occur, at least 1.
            max_size: largest number of tokens, the four special ones counted.

        Raises:
            ValueError: if ``min_count`` is below 1, or ``max_size`` leaves room for no token.
        """
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1, got {min_count}")
        if max_size is not None and max_size <= len(SPECIALS):
            raise ValueError(f"max_size must exceed the {len(SPECIALS)} specials, got {max_size}")
        counts = Counter(token for sequence in sequences for token in sequence)
        kept = [t for t, count in counts.items() if count >= min_count and t not in SPECIALS]
        kept.sort(key=lambda token: (-counts[token], token))
        return cls(kept if max_size is None else kept[: max_size - len(SPECIALS)])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: str) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    __hash__ = None  # equal ones may be built anew: compare, do not use as keys

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} tokens, {len(SPECIALS)} of them special"

    def encode(self, tokens: Sequence[str], *, bos: bool = False, eos: bool = False) -> list[int]:
        """Numbers of ``tokens``, ``<unk>`` for one that is not here.

        Args:
            tokens: a sequence of tokens; a string is a sequence of characters.
            bos, eos: whether ``<bos>`` is put in front and ``<eos>`` behind.
        """
        ids = [self._ids.get(token, UNK) for token in tokens]
        return [BOS] * bos + ids + [EOS] * eos

    def decode(self, ids: Sequence[int] | Tensor) -> list[str]:
        """Tokens up to the first ``<eos>``, without ``<pad>``, ``<bos>`` and ignored targets.

        Raises:
            ValueError: if a number is no token's.
        """
        tokens = []
        for n in map(int, ids):
            if n == EOS:
                break
            if n in (PAD, BOS, IGNORE):
                continue
            if not 0 <= n < len(self):
                raise ValueError(f"{n} is no token: this vocabulary has {len(self)}")
            tokens.append(self.tokens[n])
        return tokens


def words(text: str, *, lowercase: bool = True) -> list[str]:
    """Words and punctuation marks, each a token: "A dog's." → ``a dog ' s .``

    Every run of letters, digits and underscores is a word, every other visible character stands
    alone; accents are composed (NFC) first. Made for languages that put spaces between words.
    """
    text = unicodedata.normalize("NFC", text)
    return re.findall(r"\w+|[^\w\s]", text.lower() if lowercase else text)
