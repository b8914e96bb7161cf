"""Keys and values kept from earlier steps, so that generating one token costs one row of scores.

A causal layer's keys and values never change once written. :class:`Cache` keeps all of them in
memory set aside in advance; :class:`SlidingCache` keeps a window and the first few (Xiao et al.
2023), so that its memory does not grow. Both are for generation, where nothing is differentiated.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lookback import masks
from lookback.efficient import reference


def attention(
    q: Float[Tensor, "*batch T K"],
    k: Float[Tensor, "*batch T K"],
    v: Float[Tensor, "*batch T V"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    cache: Cache | SlidingCache,
    causal: bool = True,
    scale: float | None = None,
) -> Float[Tensor, "*batch T V"]:
    """Scaled dot-product attention of the next ``T`` tokens to everything that ``cache`` holds.

    Their keys and values are appended first. Fed a sequence piece by piece, it returns what
    :func:`lookback.efficient.reference.attention` returns for the whole (``causal=True``; with a
    :class:`SlidingCache`, under :func:`lookback.masks.window`). The cache knows the offset.

    Args:
        q: queries of the new tokens.
        k: their keys.
        v: their values.
        mask: True where a query may attend; broadcastable to ``(*batch, T, S)``, where ``S`` counts
            the keys that :meth:`append` returns, in that order.
        cache: what earlier tokens left; changed in place.
        causal: close the keys of later tokens within the same call.
        scale: factor on the scores; ``1/√K`` when left out.

    Raises:
        ValueError: as :func:`lookback.efficient.reference.attention` and :meth:`append`.
    """
    reference.check_inputs(q, k, v)
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(f"there are {q.shape[-2]} new queries but {k.shape[-2]} new keys")
    keys, values, near = cache.extend(q, k, v, mask, causal=causal)
    return reference.attention(q, keys, values, near, scale=scale)


class _Kept:
    """What both caches share."""

    slides = False

    def __init__(self) -> None:
        self.length = 0
        self._k: Tensor | None = None
        self._v: Tensor | None = None

    def extend(
        self,
        q: Float[Tensor, "*batch T K"],
        k: Float[Tensor, "*kept T K"],
        v: Float[Tensor, "*kept T V"],
        mask: Bool[Tensor, "..."] | None = None,
        *,
        causal: bool = True,
    ) -> tuple[Float[Tensor, "*kept S K"], Float[Tensor, "*kept S V"], Bool[Tensor, "..."] | None]:
        """:meth:`append`, and the mask of what each query may see; None where that is all.

        Args, Raises: as :func:`attention`. A call that is refused writes nothing.
        """
        if self.slides and not causal:
            raise ValueError("a sliding cache is causal: keys of later tokens are never held")
        T = q.shape[-2]
        if mask is not None:
            masks.check(mask, (*q.shape[:-1], self.coming(T)))
        keys, values, positions = self.append(k, v)
        near = self._visible(positions, T) if causal else None
        return keys, values, near if mask is None else mask if near is None else mask & near

    def reorder(self, index: Int[Tensor, " B"]) -> None:
        """Let row ``i`` of the first batch axis go on from what row ``index[i]`` holds."""
        if self._k is not None:
            self._k, self._v = self._k[index], self._v[index]

    @property
    def nbytes(self) -> int:
        """Bytes set aside."""
        return 0 if self._k is None else self._k.nbytes + self._v.nbytes


class Cache(_Kept):
    """Every key and value so far, in memory set aside for ``capacity`` tokens.

    Shapes, dtype and device are those of the first :meth:`append`.

    Args:
        capacity: tokens that fit.

    Attributes:
        length: tokens held, which is also the position of the next one.

    Raises:
        ValueError: if ``capacity`` is below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a cache needs room for at least 1 token, got {capacity}")
        super().__init__()
        self.capacity = capacity

    def coming(self, T: int) -> int:
        """How many keys :meth:`append` will give back for ``T`` new tokens."""
        return self.length + T

    def append(
        self, k: Float[Tensor, "*batch T K"], v: Float[Tensor, "*batch T V"]
    ) -> tuple[Float[Tensor, "*batch S K"], Float[Tensor, "*batch S V"], Int[Tensor, " S"]]:
        """Write the keys and values of the next ``T`` tokens.

        Returns:
            All keys and values so far, as views that the next call does not change, and the
            position of each.

        Raises:
            ValueError: if they do not fit into the room that is left, differ from the first in
                shape, dtype or device, or carry a gradient.
        """
        T = _check_new(k, v, self._k, self._v)
        end = self.length + T
        if end > self.capacity:
            raise ValueError(
                f"the cache has room for {self.capacity} tokens: {self.length} are held, {T} more "
                "do not fit"
            )
        if self._k is None:
            self._k, self._v = _room(k, self.capacity), _room(v, self.capacity)
        self._k[..., self.length : end, :] = k
        self._v[..., self.length : end, :] = v
        self.length = end
        positions = torch.arange(end, device=k.device)
        return self._k[..., :end, :], self._v[..., :end, :], positions

    def _visible(self, positions: Int[Tensor, " S"], T: int) -> Bool[Tensor, "T S"] | None:
        """Which of ``positions`` each of the last ``T`` tokens may attend to; None where all."""
        if T == 1:
            return None
        query = torch.arange(self.length - T, self.length, device=positions.device)[:, None]
        return positions <= query

    def crop(self, length: int) -> None:
        """Forget every token from position ``length`` on, as rejected guesses ask.

        Raises:
            ValueError: if fewer than ``length`` tokens are held, or ``length`` is negative.
        """
        _check_crop(length, self.length)
        self.length = length


class SlidingCache(_Kept):
    """The last ``width`` keys and values, and the first ``sinks`` of all (Xiao et al. 2023).

    The same keys as in :func:`lookback.masks.window`; memory stays at ``sinks + width`` tokens.

    Args:
        width: tokens in the window, the newest counted.
        sinks: tokens at the start that are never dropped.

    Attributes:
        length: tokens seen, which is also the position of the next one.

    Raises:
        ValueError: if ``width`` is below 1 or ``sinks`` negative.
    """

    slides = True

    def __init__(self, width: int, *, sinks: int = 0) -> None:
        if width < 1 or sinks < 0:
            raise ValueError(f"need width ≥ 1 and sinks ≥ 0, got {width} and {sinks}")
        super().__init__()
        self.width, self.sinks = width, sinks
        self._gone = 0  # every position before this one, the sinks apart, has been overwritten
        self._positions: Tensor | None = None

    def coming(self, T: int) -> int:
        """How many keys :meth:`append` will give back for ``T`` new tokens."""
        room = self.sinks + self.width
        return min(self.length + 1, room) if T == 1 else min(self.length, room) + T

    def append(
        self, k: Float[Tensor, "*batch T K"], v: Float[Tensor, "*batch T V"]
    ) -> tuple[Float[Tensor, "*batch S K"], Float[Tensor, "*batch S V"], Int[Tensor, " S"]]:
        """Write the keys and values of the next ``T`` tokens over those that leave the window.

        Returns:
            What was held and what is new, and the position of each key, which is not its rank:
            the window is written round and round. One token at a time costs no copy; the views
            then show what later calls write.

        Raises:
            ValueError: if they differ from the first in shape, dtype or device, or carry a
                gradient.
        """
        T = _check_new(k, v, self._k, self._v)
        room = self.sinks + self.width
        if self._k is None:
            self._k, self._v = _room(k, room), _room(v, room)
            self._positions = torch.full((room,), -1, device=k.device)
        start, end = self.length, self.length + T
        before = None
        if T > 1:  # the first of the new tokens still sees what the last of them pushes out
            before = [x.clone() for x in self._held()]
        kept = [p for p in range(start, end) if p < self.sinks or p >= end - self.width]
        slots = [p if p < room else self.sinks + (p - self.sinks) % self.width for p in kept]
        rows = [p - start for p in kept]
        self._k[..., slots, :] = k[..., rows, :]
        self._v[..., slots, :] = v[..., rows, :]
        self._positions[slots] = torch.tensor(kept, device=k.device)
        self.length, self._gone = end, end - self.width
        if before is None:
            return self._held()
        new = torch.arange(start, end, device=k.device)
        keys, values = torch.cat([before[0], k], -2), torch.cat([before[1], v], -2)
        return keys, values, torch.cat([before[2], new])

    def _visible(self, positions: Int[Tensor, " S"], T: int) -> Bool[Tensor, "T S"]:
        """Which of ``positions`` each of the last ``T`` tokens may attend to."""
        query = torch.arange(self.length - T, self.length, device=positions.device)[:, None]
        distance = query - positions
        near = (distance < self.width) | (positions < self.sinks)
        return near & (distance >= 0) & (positions >= 0)  # position -1: cropped, not yet rewritten

    def crop(self, length: int) -> None:
        """Forget every token from position ``length`` on.

        Raises:
            ValueError: if fewer are held, or what the window would then show is already gone.
        """
        _check_crop(length, self.length)
        if self._gone > max(self.sinks, length - self.width + 1) and length < self.length:
            raise ValueError(
                f"cannot go back from {self.length} to {length} tokens: the window would start at "
                f"position {max(self.sinks, length - self.width + 1)}, but all before position "
                f"{self._gone} have left it"
            )
        if self._positions is not None:
            self._positions[self._positions >= length] = -1
        self.length = length

    def _held(self) -> tuple[Tensor, Tensor, Tensor]:
        held = min(self.length, self.sinks + self.width)
        return self._k[..., :held, :], self._v[..., :held, :], self._positions[:held]


def _room(x: Tensor, capacity: int) -> Tensor:
    # zeros, not empty: memory may hold NaN, and a zero weight times NaN is NaN
    return x.new_zeros(*x.shape[:-2], capacity, x.shape[-1])


def _check_new(k: Tensor, v: Tensor, held_k: Tensor | None, held_v: Tensor | None) -> int:
    """Refuse keys and values that do not continue the cache; return how many there are."""
    reference.check_inputs(k, k, v)
    if k.shape[-2] < 1:
        raise ValueError("there is no token to append: the length is 0")
    if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
        raise ValueError("a cache keeps no gradient: append under torch.no_grad()")
    for name, new, held in (("keys", k, held_k), ("values", v, held_v)):
        if held is None:
            continue
        if new.shape[:-2] != held.shape[:-2] or new.shape[-1] != held.shape[-1]:
            raise ValueError(f"the cache holds {name} of shape {_shape(held)}, got {_shape(new)}")
        if (new.dtype, new.device) != (held.dtype, held.device):
            raise ValueError(
                f"the cache holds {name} in {held.dtype} on {held.device}, got {new.dtype} on "
                f"{new.device}"
            )
    return k.shape[-2]


def _shape(x: Tensor) -> str:
    return "(" + ", ".join([*map(str, x.shape[:-2]), "…", str(x.shape[-1])]) + ")"


def _check_crop(length: int, held: int) -> None:
    if not 0 <= length <= held:
        raise ValueError(f"cannot go back to {length} tokens: {held} are held")
