"""The sizes of tiles that each kernel may choose from, and which of them fit a device.

The first call with a new kind of input times what is left of the list and keeps the fastest
(``triton.autotune``). The interpreter has nothing to time and takes one small size, so that short
sequences still fill several tiles.
"""

from collections.abc import Callable

import triton

INTERPRETED = triton.knobs.runtime.interpret

# What tells inputs apart that may want another size. Dtypes are added by Triton itself.
KEY = ["size", "PADDED_K", "PADDED_V", "LOWER", "UPPER", "MASK", "SHARE"]


def size_class(T: int, S: int) -> int:
    """One number for both lengths, each to the next power of two: not every length is tuned anew,
    and one query to many keys is another thing than many to many."""
    return 64 * (T - 1).bit_length() + (S - 1).bit_length()


def _configs(*sizes: tuple[int, int, int, int]) -> list[triton.Config]:
    if INTERPRETED:
        return [triton.Config({"BLOCK_T": 16, "BLOCK_S": 16}, num_warps=1, num_stages=1)]
    return [
        triton.Config({"BLOCK_T": t, "BLOCK_S": s}, num_warps=warps, num_stages=stages)
        for t, s, warps, stages in sizes
    ]


# queries, keys, warps, stages: how many of the tiles that a program walks over are under way
FORWARD = _configs(
    (16, 32, 4, 2),  # a few queries: generation
    (32, 32, 8, 1),  # float32
    (64, 32, 4, 2),
    (64, 64, 4, 3),
    (128, 64, 4, 3),
    (128, 64, 8, 3),
    (128, 128, 8, 2),
    (128, 128, 8, 3),
)
QUERIES = _configs(
    (16, 32, 4, 2),
    (32, 32, 8, 1),
    (64, 32, 4, 2),
    (64, 64, 4, 2),
    (128, 64, 8, 2),
    (128, 64, 8, 3),
)
KEYS = _configs(
    (16, 32, 4, 2),
    (32, 32, 8, 1),
    (64, 64, 4, 2),
    (64, 64, 8, 2),
    (32, 128, 8, 3),
    (64, 128, 8, 2),
)


def prune(kernel: str) -> dict[str, Callable]:
    """The argument ``prune_configs_by`` of ``triton.autotune`` for one of the three kernels."""

    def fitting(configs, positional, **named):
        arguments = positional | named
        device = triton.runtime.driver.active.utils.get_device_properties(
            arguments["Q"].device.index
        )
        return fit(configs, kernel, room=device["max_shared_mem"], **arguments)

    return {"early_config_prune": fitting}


def fit(configs: list, kernel: str, *, room: int, Q, T, S, PADDED_K, PADDED_V, **_) -> list:
    """Sizes whose tiles fit into ``room`` bytes of shared memory and are no longer than the data.

    In float32 products run without tensor cores, out of registers: there larger tiles only spill.
    The smallest size is kept in any case.
    """
    walks_keys = kernel != "KEYS"

    def fits(config) -> bool:
        t, s = config.kwargs["BLOCK_T"], config.kwargs["BLOCK_S"]
        if Q.element_size() == 4 and t * s > 128 * config.num_warps:
            return False
        if kernel == "FORWARD" and t * PADDED_V > 96 * 32 * config.num_warps:
            return False  # more than 96 sums a thread, and registers run out
        resident, moving = (t, s) if walks_keys else (s, t)
        # the forward pass keeps queries; the others two matrices, and the scores between products
        kept = resident * PADDED_K if kernel == "FORWARD" else resident * (PADDED_K + PADDED_V)
        scores = 0 if kernel == "FORWARD" else t * s
        moved = config.num_stages * moving * (PADDED_K + PADDED_V)
        if (kept + scores + moved) * Q.element_size() > room:
            return False
        return t <= max(16, triton.next_power_of_2(T)) and s <= max(32, triton.next_power_of_2(S))

    return [config for config in configs if fits(config)] or configs[:1]
