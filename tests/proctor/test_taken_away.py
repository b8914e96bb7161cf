"""What is banned is not to be had in a candidate, by no route that is known; what is near it is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BANNED = (
    "torch.nn.functional.scaled_dot_product_attention",
    "torch.nn.attention.flex_attention.flex_attention",
    "torch.nn.MultiheadAttention",
    "torch.nn.LayerNorm",
    "torch.nn.LSTM",
    "torch.nn.LSTMCell",
    "torch.nn.RNN",
    "torch.nn.init.orthogonal_",
    "torch.nn.utils.clip_grad_norm_",
    "torch.nn.CrossEntropyLoss",
    "torch.utils.flop_counter.FlopCounterMode",
)
BEGIN = f"""
import gc, importlib, json, sys, types
from proctor import forkserver, taken_away
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
forkserver.warm_up()
gc.freeze()
early = nn.LayerNorm(4)
taken_away.install({BANNED!r})
aten, key, F = torch.ops.aten, torch._C.DispatchKey, nn.functional
math = aten._scaled_dot_product_attention_math.default
whole = aten.scaled_dot_product_attention
norm = aten.native_layer_norm
q = torch.randn(1, 2, 3, 4)
x, c = torch.randn(3, 4), torch.zeros(3, 4)
W = torch.randn(16, 4)

def destroyed():
    for thing in gc.get_objects():
        if type(thing).__name__ == "Library" and isinstance(thing, torch.library.Library):
            thing._destroy()
    return whole(q, q, q)

def fallen_through():
    library = torch.library.Library("aten", "IMPL")
    for k in ("AutogradCPU", "CPU"):
        falls = torch.library.fallthrough_kernel
        library.impl("_scaled_dot_product_attention_math", falls, k, allow_override=True)
    return math(q, q, q)

def scripted():
    source = "def f(q):\\n    return torch._scaled_dot_product_attention_math(q, q, q)[0]\\n"
    return torch.jit.CompilationUnit(source).f(q)

def in_a_mode():
    class Passing(TorchDispatchMode):
        def __torch_dispatch__(self, f, t, a=(), k=None):
            return f(*a, **(k or {{}}))
    with Passing():
        return whole(q, q, q)

def below_autograd():
    with torch._C._AutoDispatchBelowAutograd():
        return whole(q, q, q)

def traced():
    from torch.fx.experimental.proxy_tensor import make_fx
    return make_fx(lambda x: whole(x, x, x))(q)(q)

def without_init():
    layer = nn.LSTM.__new__(nn.LSTM)
    nn.Module.__init__(layer)
    return layer.forward(q)

def subclassed():
    class Own(nn.LayerNorm):
        def __init__(self):
            nn.Module.__init__(self)
            self.normalized_shape, self.weight, self.bias, self.eps = (4,), None, None, 1e-5
    return Own()(x)

def decomposed(name, *args):
    return getattr(importlib.import_module("torch._decomp.decompositions"), name)(*args)

def from_table():
    return torch._decomp.decomposition_table[norm.default](x, [4], None, None, 1e-5)

def unwrapped():
    f = torch._refs.native_layer_norm
    while hasattr(f, "__wrapped__"):
        f = f.__wrapped__
    return f(x, [4], None, None, 1e-5)

def quantizable():
    from torch.ao.nn.quantizable.modules.rnn import LSTMCell
    return LSTMCell(4, 4)

def loaded_later():
    from torch.nested._internal import sdpa
    return sdpa.jagged_scaled_dot_product_attention(q, q, q)

def flexible():
    from torch._higher_order_ops.flex_attention import math_attention
    return math_attention(q, q, q, None, (), 1.0, {{}}, ())

def static():
    source = "def f(x):\\n    return torch.layer_norm(x, [4])\\n"
    return torch._C._jit_to_static_module(torch.jit.CompilationUnit(source).f.graph)(x)
"""
ROUTES = {
    "operation": "whole(q, q, q)",
    "function": "F.scaled_dot_product_attention(q, q, q)",
    "builtin": "torch._C._nn.scaled_dot_product_attention(q, q, q)",
    "destroyed": "destroyed()",
    "fallen through": "fallen_through()",
    "scripted": "scripted()",
    "in a mode": "in_a_mode()",
    "below autograd": "below_autograd()",
    "traced": "traced()",
    "decomposed": "math.decompose(q, q, q)",
    "functionalized": "torch.func.functionalize(lambda x: math(x, x, x))(q)",
    "vmap": "torch.vmap(lambda x: whole(x, x, x))(q)",
    "func.grad": "torch.func.grad(lambda x: whole(x, x, x).sum())(q)",
    "nested": "math(*[torch.nested.nested_tensor([q[0]])] * 3)",
    "nested, later": "loaded_later()",
    "flash": "aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)",
    "flex": "flexible()",
    "onnx": "importlib.import_module('torch.onnx.ops')",
    "an early layer": "early(x)",
    "native norm": "norm(x, [4], None, None, 1e-5)",
    "norm in refs": "torch._refs.native_layer_norm(x, [4], None, None, 1e-5)",
    "norm in the table": "from_table()",
    "norm unwrapped": "unwrapped()",
    "norm, static": "static()",
    "subclass": "subclassed()",
    "LSTM without init": "without_init()",
    "LSTM cell, decomposed": "decomposed('lstm_cell', W, x, c, W, None, None, 1)",
    "LSTM cell, quantizable": "quantizable()",
    "LSTM by mkldnn": (
        "torch.mkldnn_rnn_layer(x[None], W, W, W[:, 0], W[:, 0], c[:1, :1], c[:1, :1], False, [], "
        "2, 4, 1, True, False, False, False)"
    ),
    "RNN": "torch.rnn_tanh(x[None], c[None], [W[:4], W[:4]], False, 1, 0.0, False, False, True)",
    "orthogonal": "nn.init.orthogonal_(W)",
    "clipping": "nn.utils.clip_grad.clip_grad_norm_([W], 1.0)",
    "loss": "F.cross_entropy(x, torch.tensor([0, 1, 2]))",
    "counter": "torch.utils.flop_counter.FlopCounterMode()",
} | {
    f"at {key}": f"math._op_dk(key.{key}, q, q, q)"
    for key in (
        "CompositeImplicitAutograd", "CompositeExplicitAutograd", "CPU", "AutogradCPU", "Autograd",
        "Meta", "Functionalize", "FuncTorchBatched", "FuncTorchBatchedDecomposition",
        "NestedTensorCPU", "AutocastCPU", "PythonDispatcher", "PreDispatch", "PrivateUse1",
    )
}  # fmt: skip
OPEN = {
    "softmax": "(q @ q.mT).softmax(-1) @ q",
    "GRU": "nn.GRU(4, 4)(x)",
    "a linear layer": "nn.Linear(4, 4)(x).sum().backward()",
    "a container": "nn.TransformerDecoder",
    "the norm of a vector": "torch.linalg.vector_norm(x) + x.norm()",
    "log softmax": "x.log_softmax(-1).gather(-1, torch.tensor([[0]]))",
    "xavier": "nn.init.xavier_uniform_(nn.Linear(4, 4).weight)",
}


@pytest.fixture(scope="module")
def tried() -> dict[str, str]:
    """What came of each route, in a process that has lost what is banned."""
    routes = {name: f"({code})" for name, code in (ROUTES | OPEN).items()}
    program = f"""{BEGIN}
said = {{}}
for name, code in {routes!r}.items():
    try:
        eval(code)
        said[name] = "open"
    except BaseException as error:
        said[name] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(said))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_leads_to_what_is_banned(tried, route):
    assert "write it yourself" in tried[route] or "has no attribute" in tried[route]


@pytest.mark.parametrize("name", OPEN)
def test_what_is_near_it_still_works(tried, name):
    assert tried[name] == "open"
