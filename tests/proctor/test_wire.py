"""What crosses the boundary arrives as it was, and nothing else is let in."""

from __future__ import annotations

import json
import socket
import struct
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from proctor.limits import Limits, MiB
from proctor.values import TOGETHER, Packer, Unpacker
from proctor.wire import LENGTHS, Channel, Refused, WireError

LIMITS = Limits(frame=MiB, head=64 * 1024)


def nothing_else(*_):
    raise Refused("only plain data crosses here")


def pair(limits: Limits = LIMITS) -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(5)
    return Channel(ours, limits), theirs


def crossed(value):
    """The value after one crossing, sent by a thread so that no buffer is too small."""
    ours, theirs = socket.socketpair()
    packer = Packer(nothing_else)
    head = {"v": packer.value(value)}
    head["t"], storages = packer.finish()
    thread = threading.Thread(target=Channel(ours, LIMITS).send, args=(head, storages))
    thread.start()
    head, storages, _ = Channel(theirs, LIMITS).receive()
    thread.join()
    ours.close(), theirs.close()
    return Unpacker(head["t"], storages, nothing_else, LIMITS.frame).value(head["v"])


def received(raw: bytes):
    """What a channel makes of these bytes, followed by the end of the stream."""
    channel, theirs = pair()
    theirs.sendall(raw)
    theirs.close()
    try:
        head, storages, _ = channel.receive()
        return Unpacker(head.get("t", []), storages, nothing_else, LIMITS.frame).value(head["v"])
    finally:
        channel.close()


def frame(head, blob: bytes = b"") -> bytes:
    text = json.dumps(head).encode()
    return LENGTHS.pack(len(text), len(blob)) + text + blob


def blob(header, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "dtype",
    [
        "bool",
        "uint8",
        "uint16",
        "uint64",
        "int32",
        "int64",
        "float16",
        "bfloat16",
        "float32",
        "float64",
        "complex64",
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 0, 3), (2, 3, 4)])
def test_a_tensor_arrives_with_its_dtype_shape_and_numbers(dtype, shape):
    dtype = getattr(torch, dtype)
    x = (torch.rand(shape) * 10).to(dtype)
    back = crossed(x)
    assert back.dtype == dtype
    torch.testing.assert_close(back, x, rtol=0, atol=0)


def test_a_sign_or_a_conjugation_that_is_only_noted_arrives_as_numbers():
    z = torch.complex(torch.randn(3), torch.randn(3))
    assert z.conj().imag.is_neg()
    assert z.conj().is_conj()
    assert crossed(z.conj().imag).tolist() == (-z.imag).tolist()
    assert crossed(z.conj()).tolist() == z.conj().tolist()


@pytest.mark.parametrize(
    "value", [np.int64(11), np.float32(0.5), np.uint8(3), np.int64(-(2**62))], ids=repr
)
def test_a_number_of_numpy_arrives_as_pythons(value):
    back = crossed([value])[0]
    assert type(back) is (int if isinstance(value, np.integer) else float)
    assert back == value


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.mT,
        lambda x: x[:, ::2],
        lambda x: x[1:, 2:],
        lambda x: x[:1].expand(5, 6),
        lambda x: x.as_strided((3, 3), (1, 2), 4),
        lambda x: x[1, 2:3].as_strided((1,), (2,)),
        lambda x: x[:1, :1].mT,
    ],
)
def test_a_view_arrives_with_its_strides(view):
    x = view(torch.arange(24.0).view(4, 6))
    back = crossed(x)
    assert back.stride() == x.stride()
    torch.testing.assert_close(back, x, rtol=0, atol=0)


def test_tensors_that_share_memory_share_it_after_crossing():
    x = torch.arange(6.0)
    a, b, again = crossed((x[:4], x[2:], x))
    a[3] = 100
    assert b[1] == 100
    assert again[3] == 100


def test_expanded_tensors_are_bounded_together_by_what_they_are_when_laid_out():
    large = torch.zeros(1).expand(LIMITS.frame // 4)
    found = crossed([large.view(1, -1) for _ in range(TOGETHER)])
    assert sum(x.numel() * x.element_size() for x in found) == TOGETHER * LIMITS.frame
    with pytest.raises(WireError, match=f"{TOGETHER * LIMITS.frame} may cross"):
        crossed([large.view(1, -1) for _ in range(TOGETHER + 1)])


def test_one_tensor_twice_arrives_as_one():
    x = torch.randn(3)
    a, b = crossed([x, x])
    assert a is b


def test_nan_infinities_and_negative_zero_keep_their_bits():
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    assert crossed(x).numpy().tobytes() == x.numpy().tobytes()
    a, b, c = crossed([float("nan"), -float("inf"), -0.0])
    assert a != a
    assert b == -float("inf")
    assert str(c) == "-0.0"


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
    max_leaves=10,
)


@given(plain)
@settings(max_examples=30, deadline=None)
def test_plain_values_arrive_as_they_were(value):
    assert repr(crossed(value)) == repr(value)


def test_the_lists_and_dicts_that_arrive_are_those_looked_at_for_changes():
    unpacker = Unpacker([], [], nothing_else, LIMITS.frame)
    value = unpacker.value(Packer(nothing_else).value({"a": [1], "b": ([2],)}))
    value["a"].clear(), value["b"][0].append(3), value.pop("b")
    assert unpacker.containers == [[], [2, 3], {"a": []}]


def test_shapes_dtypes_devices_and_slices_arrive_as_they_were():
    value = (torch.Size([2, 3]), torch.float16, torch.device("cpu"), slice(1, None, 2), (1, (2,)))
    assert crossed(value) == value
    assert type(crossed(value)[0]) is torch.Size


def test_a_blob_is_what_safetensors_reads():
    x, y = torch.randn(3, 4), torch.arange(5)
    packer = Packer(nothing_else)
    packer.value([x, y])
    rows, storages = packer.finish()
    channel, theirs = pair()
    channel.send({"v": None}, storages)
    head_size, size = LENGTHS.unpack(theirs.recv(16))
    theirs.recv(head_size)
    tensors = load(theirs.recv(size))
    torch.testing.assert_close(tensors[str(rows[0][0])].view(3, 4), x)
    torch.testing.assert_close(tensors[str(rows[1][0])], y)


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}, b"bytes", 2**63, torch.eye(2).to_sparse()])
def test_what_is_no_plain_data_is_refused_before_it_is_sent(value):
    with pytest.raises(Refused):
        Packer(nothing_else).value(value)


def test_too_much_is_refused_before_a_byte_is_sent():
    channel, theirs = pair()
    theirs.setblocking(False)
    with pytest.raises(Refused, match=r"2\.0 MiB are too much for one call; 1\.0 MiB may cross"):
        channel.send({}, [torch.zeros(2 * MiB, dtype=torch.uint8)])
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ROW = [0, [2], [1], 0, 0]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "closed"),
        (frame({"v": 1})[:-1], "closed"),
        (LENGTHS.pack(2**40, 0), "a head of"),
        (LENGTHS.pack(2, 2**40) + b"{}", "tensors of"),
        (LENGTHS.pack(9, 0) + b"not json!", "not JSON"),
        (LENGTHS.pack(20_000, 0) + b"[" * 20_000, "not JSON"),
        (frame({"v": 1}, b"1234"), "too short"),
        (frame({"v": 1}, struct.pack("<Q", 2**40) + b"x"), "a tensor header of"),
        (frame({"v": 1}, blob({}, b"")), "names no tensors"),
        (frame({"v": 1}, blob({"1": F32}, b"\0" * 8)), "storage 0 is not described"),
        (frame({"v": 1}, blob({"0": F32 | {"dtype": "O64"}}, b"\0" * 8)), "unknown dtype"),
        (frame({"v": 1}, blob({"0": F32 | {"shape": [2**50]}}, b"\0" * 8)), "claims"),
        (frame({"v": 1}, blob({"0": F32 | {"shape": [-2]}}, b"\0" * 8)), "impossible"),
        (frame({"v": 1}, blob({"0": F32 | {"shape": [2.0]}}, b"\0" * 8)), "impossible"),
        (frame({"v": 1}, blob({"0": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12)), "claims"),
        (frame({"v": 1}, blob({"0": F32}, b"\0" * 12)), "in a blob that holds"),
        (
            frame(
                {"v": 1},
                blob({"0": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\7"),
            ),
            "neither true nor false",
        ),
        (frame({"v": {"t": 0}, "t": []}), "tensor 0 of 0"),
        (frame({"v": {"t": True}, "t": []}), "tensor True"),
        (frame({"v": 2**70}), "beyond 64 bits"),
        (frame({"v": {"f": "1_000"}}), "a number that is none"),
        (frame({"v": {"d": [[1]]}}), "no pairs"),
        (frame({"v": {"d": [[{"l": []}, 1]]}}), "cannot be one"),
        (frame({"v": [1, 2]}), "a bare list"),
        (frame({"v": {"slice": [1]}}), "a slice of 1"),
        (frame({"v": {"size": [-1]}}), "something else than counts"),
        (frame({"v": {"dtype": "O"}}), "unknown dtype"),
    ],
)
def test_a_frame_that_no_honest_peer_sends_is_refused(raw, message):
    with pytest.raises(WireError, match=message):
        received(raw)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1, [2], [1], 0, 0], "storage 1 of 1"),
        ([0, [3], [1], 0, 0], "reaches element 2 of 2"),
        ([0, [2], [1], 1, 0], "reaches element 2 of 2"),
        ([0, [2], [-1], 1, 0], "short lists of counts"),
        ([0, [2] * 20, [1] * 20, 0, 0], "short lists of counts"),
        ([0, [2**40], [0], 0, 0], "may cross"),
        ([0, [2]], "five numbers"),
        ([True, [2], [1], 0, 0], "storage True"),
    ],
)
def test_a_tensor_that_lies_about_its_place_is_refused(row, message):
    with pytest.raises(WireError, match=message):
        received(frame({"v": {"t": 0}, "t": [row]}, blob({"0": F32}, b"\0" * 8)))
    assert received(frame({"v": {"t": 0}, "t": [ROW]}, blob({"0": F32}, b"\0" * 8))).shape == (2,)


def test_waiting_for_a_silent_peer_ends_when_the_caller_says_so():
    ours, theirs = socket.socketpair()

    def give_up():
        raise TimeoutError("enough")

    with pytest.raises(TimeoutError, match="enough"):
        Channel(ours, LIMITS, idle=give_up).receive()
    theirs.close(), ours.close()


def test_limits_that_contradict_each_other_are_named():
    with pytest.raises(ValueError, match=r"a wall limit of 1 s would cut off a CPU budget of 5 s"):
        Limits(cpu=5, wall=1)
    with pytest.raises(ValueError, match="memory must be above 0, got 0"):
        Limits(memory=0)
