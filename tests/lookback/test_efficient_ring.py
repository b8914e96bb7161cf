"""Ring attention on four processes against one, and alone."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.distributed as dist

import ring_processes
from attention_cases import assert_same, mask_of, tensors
from launch import launch
from lookback.efficient import reference, ring


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A ring of one process."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_four_processes_give_what_one_gives_forward_and_backward(tmp_path):
    launch([sys.executable, ring_processes.__file__, "meeting"], cwd=tmp_path, timeout=120)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "padding", "empty rows"])
def test_a_ring_of_one_is_plain_attention(causal, kind):
    mask = mask_of(kind, 7, 7)

    def ours(q, k, v):
        return ring.attention(q, k, v, mask, causal=causal, scale=0.4, tile=3)

    def exact(q, k, v):
        return reference.attention(q, k, v, mask, causal=causal, scale=0.4)

    assert_same(ours, exact, tensors(7, 7))


@pytest.mark.usefixtures("alone", "no_shape_checks")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 4, 8)}, "this part has 4 queries but 5 keys"),
        ({"mask": torch.ones(5, 6, dtype=torch.bool)}, r"\(5, 6\) does not broadcast"),
        ({"mask": torch.ones(5, 5)}, "a mask must be boolean"),
        ({"tile": 0}, "a tile needs at least 1 query and key, got 0"),
        ({"k": torch.randn(2, 5, 7)}, "queries have width 8 but keys have width 7"),
    ],
)
def test_a_ring_names_what_does_not_fit(change, message):
    inputs = {name: torch.randn(2, 5, 8) for name in "qkv"}
    with pytest.raises(ValueError, match=message):
        ring.attention(**(inputs | change))


def test_a_ring_without_a_process_group_says_so():
    x = torch.randn(2, 5, 8)
    with pytest.raises(ValueError, match=r"torch\.distributed is not initialised"):
        ring.attention(x, x, x)
