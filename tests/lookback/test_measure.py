"""Measurements held against what is known beforehand: counted bytes, counted products, sleeps."""

from __future__ import annotations

import time

import pytest
import torch
import torch.nn.functional as F

from lookback import measure
from lookback.efficient import reference


def test_seconds_of_a_call_are_at_least_what_it_sleeps():
    found = measure.seconds(lambda: time.sleep(2e-3), min_seconds=0.02)
    assert found.low >= 2e-3
    assert found.low <= found.median <= found.high
    assert found.runs >= 1
    assert float(found) == found.median


def test_processor_time_leaves_out_what_a_call_waits():
    found = measure.seconds(lambda: time.sleep(2e-2), min_seconds=1e-4, processor=True)
    assert found.median < 2e-2


def test_a_comparison_gives_ratios_to_the_first_call():
    ratios = measure.compare(
        {"short": lambda: time.sleep(1e-3), "long": lambda: time.sleep(2e-2)},
        rounds=3,
        min_seconds=1e-3,
    )
    assert ratios["short"] == measure.Spread(1.0, 1.0, 1.0, 3)
    assert ratios["long"].median > 1
    assert ratios["long"].runs == 3


def test_a_comparison_by_processor_time_leaves_out_what_a_call_waits():
    def work(waits):
        torch.ones(2**20).sum()
        time.sleep(waits)

    ratios = measure.compare(
        {"at once": lambda: work(0), "late": lambda: work(1.0)},
        rounds=1,
        min_seconds=1e-3,
        processor=True,
    )
    assert ratios["late"].median < 100  # by the wall it would be a thousand


def test_a_comparison_lets_the_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    measure.compare(calls, rounds=4, min_seconds=1e-9)
    blocks = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert "".join(blocks).endswith("abababab")


def test_a_spread_is_the_median_and_the_quartiles():
    assert measure._spread([1.0, 2.0, 3.0, 4.0, 100.0]) == measure.Spread(3.0, 2.0, 4.0, 5)
    assert str(measure.Spread(1234.5, 0.125, 2e4, 3)) == "1.23e+03 (0.125 to 2e+04)"


def test_peak_memory_counts_what_is_held_at_once_and_not_what_came_after():
    def call():
        a = torch.empty(1000, 250)
        b = torch.empty(2000, 250)
        del a
        return b, torch.empty(500, 250)

    assert measure.peak_memory(call) == 4 * 250 * (1000 + 2000)


def test_peak_memory_ignores_what_was_there_before_and_views_of_it():
    x = torch.randn(512, 512)
    assert measure.peak_memory(lambda: x.T.reshape(-1, 2, 512)[3:]) == 0
    assert measure.peak_memory(lambda: x.sin()) == x.numel() * 4


def test_autograd_keeps_what_no_grad_lets_go():
    x = torch.randn(256, 256, requires_grad=True)

    def chain():
        y = x
        for _ in range(8):
            y = y.sin()
        return y

    tensor = 4 * 256 * 256
    assert measure.peak_memory(chain) == 8 * tensor
    with torch.no_grad():
        assert measure.peak_memory(chain) == 2 * tensor


def test_stored_scores_take_memory_quadratic_in_the_length():
    def peak(T):
        q = torch.randn(T, 4)
        return measure.peak_memory(lambda: reference.attention(q, q, q))

    sizes = [128, 256, 512]
    assert measure.fitted_exponent(sizes, [peak(T) for T in sizes]) == pytest.approx(2, abs=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_of_a_gpu_counts_its_tensors():
    def call():
        return torch.empty(1024, 1024, device="cuda")

    assert measure.peak_memory(call, device="cuda") == 4 * 1024 * 1024


def test_operations_of_a_matrix_product_are_two_a_multiplication():
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert measure.operations(lambda: a @ b) == 2 * 3 * 5 * 7
    assert measure.operations(lambda: a.softmax(-1)) == 0


def test_fused_attention_counts_as_many_operations_as_the_reference():
    q, k, v = torch.randn(2, 3, 6, 4), torch.randn(2, 3, 9, 4), torch.randn(2, 3, 9, 4)
    expected = 2 * (2 * 3) * 6 * 9 * (4 + 4)
    assert measure.operations(lambda: reference.attention(q, k, v)) == expected
    assert measure.operations(lambda: F.scaled_dot_product_attention(q, k, v)) == expected


def test_fused_attention_computes_its_scores_again_on_the_way_back():
    q = torch.randn(1, 1, 6, 4, requires_grad=True)

    def plain():
        return reference.attention(q, q, q).sum().backward()

    def fused():
        return F.scaled_dot_product_attention(q, q, q).sum().backward()

    scores = 2 * 6 * 6 * 4
    assert measure.operations(fused) == measure.operations(plain) + scores


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 2.0, 3.0])
def test_the_exponent_of_a_power_law_is_found_again(exponent):
    sizes = [1, 3, 10, 40]
    values = [7.0 * size**exponent for size in sizes]
    assert measure.fitted_exponent(sizes, values) == pytest.approx(exponent)


def test_the_device_is_named_with_its_threads():
    name = measure.device_name()
    assert name.endswith(", 1 thread")
    assert len(name) > len(", 1 thread")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure.seconds(int, min_seconds=0), "min_seconds must be positive, got 0"),
        (lambda: measure.compare({"a": int}), "two calls or more, got 1"),
        (lambda: measure.compare({"a": int, "b": int}, rounds=0), "at least 1, got 0"),
        (lambda: measure.compare({"a": int, "b": int}, min_seconds=-1.0), "positive, got -1.0"),
        (lambda: measure.peak_memory(int, device="meta"), "on cpu or cuda, not on meta"),
        (lambda: measure.fitted_exponent([1, 2], [1]), "2 sizes but 1 values"),
        (lambda: measure.fitted_exponent([1, 2], [1, 0]), "need positive numbers"),
        (lambda: measure.fitted_exponent([3, 3], [1, 2]), "two different sizes"),
    ],
)
def test_measurements_name_the_numbers_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
