"""Sequences of different lengths, padded into batches in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD

Pair = tuple[Sequence[int], Sequence[int]]


class Batch(NamedTuple):
    """Pairs of sequences as an encoder–decoder takes them.

    Attributes:
        source: ``(B, S)``, padded with ``PAD``.
        source_lengths: ``(B,)``, tokens before the padding.
        decoder_input: ``(B, T)``: ``BOS`` and the target's tokens, padded with ``PAD``.
        target: ``(B, T)``: the target's tokens and ``EOS``, one step ahead of the decoder's input,
            padded with ``IGNORE``.
    """

    source: Tensor
    source_lengths: Tensor
    decoder_input: Tensor
    target: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        return Batch(*(x.to(device, non_blocking=non_blocking) for x in self))


def pad(
    sequences: Sequence[Sequence[int]], *, value: int = PAD, length: int | None = None
) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Put sequences side by side, filled up behind.

    Args:
        sequences: numbers of tokens.
        value: what the padding holds.
        length: padded length; that of the longest sequence when left out.

    Returns:
        The padded numbers, and the length of each sequence.

    Raises:
        ValueError: if there is no sequence, one is longer than ``length``, or tokens are no
            integers.
    """
    if not len(sequences):
        raise ValueError("there is no sequence to pad")
    lengths = [len(sequence) for sequence in sequences]
    T = max(lengths) if length is None else length
    if max(lengths) > T:
        raise ValueError(f"a sequence of {max(lengths)} tokens does not fit into {T}")
    tokens, real = torch.tensor([x for row in sequences for x in row]), torch.tensor(lengths)
    if len(tokens) and (tokens.is_floating_point() or tokens.dtype == torch.bool):
        raise ValueError(f"tokens must be integers, got {tokens.dtype}")
    padded = torch.full((len(lengths), T), value, dtype=torch.long)
    padded[torch.arange(T) < real[:, None]] = tokens.long()
    return padded, real


def collate(pairs: Sequence[Pair]) -> Batch:
    """One batch of pairs of sequences, without special tokens of their own.

    Raises:
        ValueError: if there is no pair, or a source is empty.
    """
    _check_sources(pairs)
    source, lengths = pad([source for source, _ in pairs])
    decoder_input, _ = pad([[BOS, *target] for _, target in pairs])
    target, _ = pad([[*target, EOS] for _, target in pairs], value=IGNORE)
    return Batch(source, lengths, decoder_input, target)


def _check_sources(pairs: Sequence[Pair]) -> None:
    for n, (source, _) in enumerate(pairs):
        if not len(source):
            raise ValueError(f"pair {n} of {len(pairs)} has an empty source")


class SeededBatches(Sampler[list[int]]):
    """Which examples make up which batch: a new order every epoch, decided by seed and epoch.

    Bucketed, a batch holds examples of similar length, so that little is padded: shuffled examples
    are sorted by length inside pools of 50 batches, and the batches are shuffled again.

    Args:
        lengths: length of each example.
        batch_size: examples a batch; the last batch may hold fewer.
        seed: decides the orders of all epochs.
        shuffle: whether the order is random; otherwise as given, or by length where bucketed.
        bucketed: whether examples of similar length share a batch.
        drop_last: whether a last batch that is not full is left out.

    Attributes:
        epoch: the next epoch, from 0. Each pass counts it up; :meth:`set_epoch` sets it, as
            resuming needs.

    Raises:
        ValueError: if there is no example, or the batch size is below 1.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        bucketed: bool = True,
        drop_last: bool = False,
    ) -> None:
        if not len(lengths):
            raise ValueError("there is no example to load")
        if batch_size < 1:
            raise ValueError(f"a batch needs at least 1 example, got {batch_size}")
        self.lengths, self.batch_size, self.seed = list(lengths), batch_size, seed
        self.shuffle, self.bucketed, self.drop_last = shuffle, bucketed, drop_last
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        source = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        self.epoch += 1
        batches = [b for b in self._batches(source) if not self._too_short(b)]
        if self.bucketed and self.shuffle:
            batches = [batches[n] for n in _shuffled(len(batches), source)]
        yield from batches

    def _batches(self, source: torch.Generator) -> list[list[int]]:
        count = len(self.lengths)
        order = _shuffled(count, source) if self.shuffle else list(range(count))
        if self.bucketed:
            pool = 50 * self.batch_size if self.shuffle else count
            pools = [order[n : n + pool] for n in range(0, count, pool)]
            order = [n for p in pools for n in sorted(p, key=self.lengths.__getitem__)]
        return [order[n : n + self.batch_size] for n in range(0, count, self.batch_size)]

    def _too_short(self, batch: list[int]) -> bool:
        return self.drop_last and len(batch) < self.batch_size


def _shuffled(count: int, source: torch.Generator) -> list[int]:
    # on the CPU as the generator is, whatever the default device
    return torch.randperm(count, generator=source, device="cpu").tolist()


def pair_loader(
    pairs: Sequence[Pair],
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = True,
    bucketed: bool = True,
    drop_last: bool = False,
) -> DataLoader:
    """A loader of :class:`Batch` from pairs of sequences of numbers.

    Args:
        pairs: source and target of each example, without special tokens.
        batch_size, seed, shuffle, bucketed, drop_last: as :class:`SeededBatches`, which is the
            loader's ``batch_sampler``. The length of a pair is that of its longer side.

    Raises:
        ValueError: if there is no pair, a source is empty, or the batch size is below 1.
    """
    _check_sources(pairs)
    lengths = [max(len(source), len(target)) for source, target in pairs]
    batches = SeededBatches(
        lengths, batch_size, seed=seed, shuffle=shuffle, bucketed=bucketed, drop_last=drop_last
    )
    return DataLoader(pairs, batch_sampler=batches, collate_fn=collate)


def window_loader(
    ids: Int[Tensor, " N"],
    T: int,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
) -> DataLoader:
    """A loader of ``(input, target)``, each ``(B, T)``, from one long text: predict the next token.

    The text is cut into pieces of ``T`` tokens that do not overlap, targets one token ahead; a rest
    shorter than that is left out.

    Args:
        ids: the whole text as numbers.
        T: length of a piece.
        batch_size, seed, shuffle, drop_last: as :class:`SeededBatches`.

    Raises:
        ValueError: if the text is shorter than one piece and its target, or a size is below 1.
    """
    if T < 1:
        raise ValueError(f"a piece needs at least 1 token, got {T}")
    if ids.ndim != 1 or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"a text is one row of integers, got {ids.dtype} {tuple(ids.shape)}")
    count = (len(ids) - 1) // T
    if count < 1:
        raise ValueError(f"a text of {len(ids)} tokens has no piece of {T} and the token after it")
    inputs, targets = ids[: count * T].view(count, T), ids[1 : count * T + 1].view(count, T)
    batches = SeededBatches(
        [T] * count, batch_size, seed=seed, shuffle=shuffle, bucketed=False, drop_last=drop_last
    )
    return DataLoader(list(zip(inputs, targets, strict=True)), batch_sampler=batches)
