"""Run by the kernels' tests: what needs a process of its own, named by the first argument.

``machine-code`` compiles the kernels for GPUs that need not be here. The interpreter forgives what
a compiler does not, so this runs without it: Triton's own compiler, then the assembler that comes
with Triton. One line is printed for each kernel.

``graph`` traces a layer with the kernel in it, forward and backward, without a break. Tracing does
not go together with the shape checks that the other tests run under.
"""

from __future__ import annotations

import re
import sys

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lookback.attention import MultiHeadAttention
from lookback.efficient.flash_triton import tuning
from lookback.efficient.flash_triton.backward import flash_backward_keys, flash_backward_queries
from lookback.efficient.flash_triton.forward import flash_forward
from lookback.efficient.linear_triton.kernels import linear_outputs, linear_states

KERNELS = {"FORWARD": flash_forward, "QUERIES": flash_backward_queries, "KEYS": flash_backward_keys}
# compute capability: bytes of shared memory that one block may have (CUDA C programming guide,
# table of technical specifications, less what the system keeps)
ROOM = {80: 163 * 1024, 90: 227 * 1024}
TYPES = {torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.float32: "*fp32"}
ALL = {"LOWER": True, "UPPER": True, "MASK": True}
CAUSAL = {"LOWER": False, "UPPER": True, "MASK": False}
ATTENTION = [
    ("FORWARD", 90, torch.bfloat16, 128, CAUSAL),
    ("QUERIES", 90, torch.bfloat16, 64, CAUSAL),
    ("KEYS", 90, torch.bfloat16, 64, ALL),
    ("FORWARD", 80, torch.float16, 96, ALL),
]
LINEAR = [(linear_states, 90, "elu"), (linear_outputs, 90, "relu")]


def attention(name: str, capability: int, dtype: torch.dtype, width: int, flags: dict):
    """The kernel with the largest tiles that its own pruning leaves for such a device."""
    padded = triton.next_power_of_2(width)
    sizes = {"T": 8192, "S": 8192, "PADDED_K": padded, "PADDED_V": padded}
    fitting = tuning.fit(
        getattr(tuning, name), name, room=ROOM[capability], Q=torch.empty(1, dtype=dtype), **sizes
    )
    constants = {"WIDTH_K": width, "WIDTH_V": width, "PADDED_K": padded, "PADDED_V": padded}
    return machine_code(
        KERNELS[name], constants | flags | {"SHARE": 2}, dtype, fitting[-1], capability
    )


def linear(kernel, capability: int, features: str):
    """A kernel of linear attention with the largest tiles that it may choose."""
    constants = {"WIDTH_K": 128, "WIDTH_V": 128, "PADDED_K": 128, "CHUNK": 64, "FEATURES": features}
    constants |= {"DECAY": True, "MASK": True, "NORMALISE": True}
    return machine_code(kernel, constants, torch.bfloat16, kernel.configs[-1], capability)


def machine_code(kernel, constants: dict, dtype: torch.dtype, config, capability: int):
    function = kernel.fn
    constants = constants | config.kwargs
    constants = {name: x for name, x in constants.items() if name in function.arg_names}
    signature = {name: kind(name, constants, TYPES[dtype]) for name in function.arg_names}
    # pointers and the strides of heads are multiples of 16, as those of real tensors are
    even = [
        i
        for i, (name, type_) in enumerate(signature.items())
        if type_.startswith("*") or name.endswith(("_batch", "_head", "_row"))
    ]
    source = ASTSource(
        function, signature, constants, {(i,): [["tt.divisibility", 16]] for i in even}
    )
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def kind(name: str, constants: dict, data: str) -> str:
    """The type of an argument, as Triton writes types."""
    if name in constants:
        return "constexpr"
    known = {"open_keys": "*u8", "full": "*i32", "reach": "*i32"}
    known |= dict.fromkeys(("L", "D", "log_decay", "sums", "total"), "*fp32")
    tensors = ("Q", "K", "V", "O", "dO", "dQ", "dK", "dV", "states")
    numbers = "fp32" if name.startswith("scale") else "i32"
    return known.get(name, data if name in tensors else numbers)


def trace() -> None:
    layer = MultiHeadAttention(32, 2, kernel="triton")
    mask = torch.arange(18) < 15
    whole = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = torch.randn(1, 18, 32)
    for options in ({"causal": True}, {"mask": mask}):
        outs = [f(x, **options) for f in (layer, whole)]
        gradients = [torch.autograd.grad(o.square().sum(), layer.parameters()) for o in outs]
        torch.testing.assert_close([outs[0], *gradients[0]], [outs[1], *gradients[1]])
        print("traced")


def compile_all() -> None:
    try:
        assembler = knobs.nvidia.ptxas.path
    except RuntimeError as missing:
        sys.exit(print(f"skipped: Triton came without an assembler for NVIDIA's GPUs ({missing})"))
    made = [(case[1], attention(*case)) for case in ATTENTION]
    linears = [(case[1], linear(*case)) for case in LINEAR]
    made += linears
    for _, kernel in linears:  # the interpreter keeps a NaN in any case, a GPU where it is told to
        found = set(re.findall(r"\b(?:min|max)\S*\.f32", kernel.asm["ptx"]))
        assert len(found) == 1, f"{kernel.name} has another use of {found}"
        assert ".NaN." in found.pop(), f"{kernel.name} turns NaN into a number"
    for capability, kernel in made:
        assert kernel.asm["cubin"], f"{assembler} made nothing of {kernel.name}"
        assert kernel.metadata.shared <= ROOM[capability]
        matrix_unit = "wgmma.mma_async" if capability == 90 else "mma.sync"
        assert matrix_unit in kernel.asm["ptx"], f"{kernel.name} leaves the tensor cores alone"
        print(kernel.name, capability, kernel.metadata.shared)


if __name__ == "__main__":
    {"machine-code": compile_all, "graph": trace}[sys.argv[1]]()
