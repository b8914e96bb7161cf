"""Seeds that a student cannot know, the same on every run.

A check draws its inputs from seeds that stand in its source, some of them visible. While a check
runs, each is mixed with a key made of the course's secret, the assignment and the student's cells,
so an answer that was fitted to the visible numbers meets others, and a failure replays exactly.
"""

from __future__ import annotations

import hashlib
import hmac
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MARK = "__given__"  # a name that only the namespace of a check holds


def key(secret: bytes, assignment: str, cells: str) -> bytes:
    """The key of one submission: an HMAC (RFC 2104) under the course's secret."""
    return hmac.new(secret, f"{assignment}\0{cells}".encode(), hashlib.sha256).digest()


def mixed(key: bytes, seed: object) -> int:
    """A seed of 63 bits that stands for another under a key."""
    digest = hmac.new(key, str(seed).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def keyed(key: bytes, check: str) -> Iterator[None]:
    """Mix the key into every seed that a check sets itself; the library's own seeds stay."""
    import torch  # here, since the driver makes keys and needs no torch

    plain = torch.manual_seed, torch.Generator

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(mixed(key, seed) if _by_check() else seed)

    def manual_seed(seed: int) -> torch.Generator:
        # torch's own function also writes down where it was called from, for the sake of GPUs
        if _by_check():
            return torch.default_generator.manual_seed(mixed(key, seed))
        return plain[0](seed)

    state = torch.get_rng_state()
    torch.default_generator.manual_seed(mixed(key, check))
    random.seed(mixed(key, check))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(mixed(key, check) % 2**32)
    torch.manual_seed, torch.Generator = manual_seed, Generator
    try:
        yield
    finally:
        torch.manual_seed, torch.Generator = plain
        torch.set_rng_state(state)


def _by_check() -> bool:
    return MARK in sys._getframe(2).f_globals
