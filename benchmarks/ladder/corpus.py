"""Sentence pairs, and the joint subwords of both languages that are learned from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from lookback.data import multi30k
from lookback.data.loaders import Pair
from lookback.data.vocabulary import EOS, SPECIALS

Sentences = list[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    """Pairs of sentences to train on, to validate with and to test with."""

    train: Sentences
    validation: Sentences
    test: Sentences


def read(pair: str, limit: int | None = None) -> Corpus:
    """Multi30k for a pair of languages.

    Args:
        pair: source and target as ``"de-en"``.
        limit: pairs of each part; all when left out.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as :func:`lookback.data.multi30k.load`.
    """
    source, _, target = pair.partition("-")
    parts = ("train", "validation", "test")
    return Corpus(
        *(multi30k.load(part, source=source, target=target, limit=limit) for part in parts)
    )


class Subwords:
    """Byte-pair encoding (Sennrich et al. 2016), one vocabulary for both languages.

    A word's first subword starts with ``▁``, which stands for the space before it; punctuation
    stands alone. So decoding gives back the text as it was. Capitals stay. The first four numbers
    are the special tokens of :mod:`lookback.data.vocabulary`, and no text is read as one of them.

    Args:
        sentences: what merges are learned from: the training set alone.
        size: subwords at most, the special ones counted.

    Raises:
        ValueError: if there is no sentence.
    """

    def __init__(self, sentences: Sequence[str], size: int) -> None:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if not len(sentences):
            raise ValueError("there is no sentence to learn subwords from")
        self.bpe = Tokenizer(models.BPE(unk_token=SPECIALS[3]))
        self.bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()]
        )
        self.bpe.decoder = decoders.Metaspace()
        trainer = trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(SPECIALS), show_progress=False
        )
        self.bpe.train_from_iterator(sentences, trainer)
        self.bpe.encode_special_tokens = True  # "<eos>" in a text is five characters

    def __len__(self) -> int:
        return self.bpe.get_vocab_size()

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The numbers of each sentence, without special tokens."""
        return [found.ids for found in self.bpe.encode_batch(list(sentences))]

    def pieces(self, numbers: Sequence[int]) -> list[str]:
        """The subwords themselves."""
        return [self.bpe.id_to_token(n) for n in numbers]

    def words(self, sentence: str) -> tuple[list[str], list[int]]:
        """The words of a sentence, and for each of its subwords the number of its word.

        Punctuation stands alone, also inside a word: *l'homme* is three words.
        """
        found = self.bpe.encode(sentence)
        words, groups, last = [], [], None
        for piece, number in zip(found.tokens, found.word_ids, strict=True):
            # a space of its own, as before a quotation mark, belongs to what follows
            if number != last and not (words and words[-1] == ""):
                words.append("")
            words[-1] += piece.removeprefix("▁")
            groups.append(len(words) - 1)
            last = number
        return words, groups

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Text of each row up to its end token."""
        rows = [row[: row.index(EOS)] if EOS in row else row for row in map(list, rows)]
        return self.bpe.decode_batch(rows)

    def pairs(self, sentences: Sentences) -> list[Pair]:
        """Numbers of source and target."""
        sides = (self.encode([pair[side] for pair in sentences]) for side in (0, 1))
        return list(zip(*sides, strict=True))

    def fingerprint(self) -> str:
        """The same for the same merges only."""
        return hashlib.sha256(self.bpe.to_str().encode()).hexdigest()[:16]


def subwords(sentences: Sentences, size: int) -> Subwords:
    """The joint subwords of both sides of a training set."""
    return Subwords([side for pair in sentences for side in pair], size)
