"""What stands on one side for an object that lives on the other.

A function, a class or any other object is a :class:`Remote`: it can be called, and its attributes
read. A module is a :class:`RemoteModule`, an ``nn.Module`` with parameters and buffers of its own,
leaves on this side, under the names they have over there; ``parameters``, ``state_dict``,
``train``, ``double`` and gradients are then torch's own. Its numbers travel with every call, and
what a call changed in them travels back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from proctor.values import Packer, Unpacker, plain
from proctor.wire import Refused, WireError

if TYPE_CHECKING:
    from proctor.peer import Peer


class Far:
    """Where an object lives: the peer, its number there, and the path to a part of it."""

    def __init__(self, peer: Peer, number: int, path: str = "") -> None:
        self.peer, self.number, self.path = peer, number, path

    def __deepcopy__(self, memo: dict) -> Far:
        return self  # a copied stand-in has numbers of its own and computes in the same place

    def part(self, name: str) -> Far:
        """Where a child lives."""
        return Far(self.peer, self.number, f"{self.path}.{name}" if self.path else name)


class Remote:
    """A function, class or object of the other side; equal to itself alone."""

    def __init__(self, far: Far, name: str) -> None:
        self.__dict__.update(_far=far, __name__=name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._far.peer.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return _attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise Refused(f"setting {name!r} on an object of the other side does not cross")

    def __repr__(self) -> str:
        return f"<{self.__name__} on the other side>"


class RemoteMethod:
    """A method of an object of the other side, with the object's numbers."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner._far.peer.call(self.owner, args, kwargs, method=self.name)


class RemoteModule(nn.Module):
    """A module of the other side, with its parameters as leaves on this one."""

    def __init__(self, far: Far) -> None:
        super().__init__()
        self.__dict__["_far"] = far

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._far.peer.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return _attribute(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "training" and name not in {**self._parameters, **self._buffers}:
            raise Refused(f"setting {name!r} on a module of the other side does not cross")
        super().__setattr__(name, value)

    def __getitem__(self, index: int | slice) -> Any:
        return list(self._modules.values())[index]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __bool__(self) -> bool:
        return True


def remote(far: Far, name: str) -> Remote:
    """A stand-in whose type bears the name of what it stands for, so that messages do too."""
    return type(clean(name), (Remote,), {"__module__": "candidate"})(far, clean(name))


def clean(name: Any) -> str:
    """A name from the other side as an identifier of bounded length."""
    return re.sub(r"\W", "_", str(name)[:60]) or "object"


def describe(module: nn.Module, packer: Packer) -> dict[str, Any]:
    """Names and numbers of a module and its children."""
    passing = module._non_persistent_buffers_set
    return {
        "name": type(module).__name__,
        "training": module.training,
        "p": [[n, packer.described_tensor(p)] for n, p in module._parameters.items()],
        "b": [
            [n, packer.described_tensor(b), n not in passing]
            for n, b in module._buffers.items()
            if not _stays(module, n, b)
        ],
        "c": [[n, c and describe(c, packer)] for n, c in module._modules.items()],
    }


def build(far: Far, tree: Any, unpacker: Unpacker, made: dict[int, Any]) -> RemoteModule:
    """The stand-in for a described module; ``made`` keeps one parameter for one row."""
    module = type(clean(_entry(tree, "name")), (RemoteModule,), {"__module__": "candidate"})(far)
    fill(module, tree, unpacker, made)
    return module


def fill(module: RemoteModule, tree: Any, unpacker: Unpacker, made: dict[int, Any]) -> None:
    """Give a stand-in the parameters, buffers and children that a description holds."""
    module._parameters.clear(), module._buffers.clear(), module._modules.clear()
    module._non_persistent_buffers_set.clear()
    module.training = bool(_entry(tree, "training"))
    for name, row in _named(tree, "p", 2):
        module._parameters[name] = _parameter(row, unpacker, made)
    for name, row, lasting in _named(tree, "b", 3):
        module._buffers[name] = None if row is None else unpacker.tensor(row)
        if not lasting:
            module._non_persistent_buffers_set.add(name)
    for name, child in _named(tree, "c", 2):
        part = module._far.part(name)
        module._modules[name] = child if child is None else build(part, child, unpacker, made)


def state(module: nn.Module, packer: Packer) -> dict[str, Any]:
    """Rows of every parameter and buffer by dotted name, and which parts are in training."""
    rows = {n: packer.tensor(t) for n, t in tensors_of(module)}
    return {"rows": rows, "training": [n for n, m in module.named_modules() if m.training]}


def tensors_of(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Every parameter and buffer by dotted name; a shared one under each of its names."""
    parts = dict(module.named_modules(remove_duplicate=False))
    return [
        *module.named_parameters(remove_duplicate=False),
        *(
            (name, buffer)
            for name, buffer in module.named_buffers(remove_duplicate=False)
            if not _stays(parts[name.rpartition(".")[0]], name.rpartition(".")[2], buffer)
        ),
    ]


def _stays(module: nn.Module, name: str, buffer: torch.Tensor | None) -> bool:
    """Whether a buffer is of a kind that does not cross, and no part of the state: it need not."""
    passing = name in module._non_persistent_buffers_set
    return passing and buffer is not None and not plain(buffer)


def load(module: nn.Module, sent: Any, unpacker: Unpacker, grad: bool) -> dict[int, torch.Tensor]:
    """Take over the numbers that the other side's stand-in has; gives the parameter of each row."""
    rows, training = _entry(sent, "rows"), _entry(sent, "training")
    mine = dict(tensors_of(module))
    if type(rows) is not dict or set(rows) != set(mine):
        raise WireError("the parameters of a module are not those of its stand-in")
    owners = {}
    with torch.no_grad():
        for name, row in rows.items():
            old, new = mine[name], unpacker.tensor(row)
            if old.dtype != new.dtype or old.shape != new.shape:
                old.data = new.clone()
            elif not torch.equal(old, new):
                old.data.copy_(new)
            if isinstance(old, nn.Parameter):
                old.requires_grad_(row in unpacker.grad)
            if old.requires_grad and grad:
                owners[row] = old
    for name, part in module.named_modules():
        part.training = name in training
    return owners


def require_same(module: nn.Module, sent: Any, unpacker: Unpacker) -> None:
    """Hold that the other side's stand-in has the numbers of its module.

    Raises:
        Refused: if it does not.
    """
    rows = _entry(sent, "rows")
    for name, tensor in tensors_of(module):
        new = unpacker.tensor(rows.get(name) if type(rows) is dict else None)
        if new.dtype != tensor.dtype or not torch.equal(new, tensor):
            raise Refused(f"{name} of a module that your code was given is not to be changed")


def changes(module: nn.Module, sent: Any, unpacker: Unpacker, packer: Packer) -> Any:
    """What a call changed in a module's numbers; None where nothing did."""
    mine, rows = dict(tensors_of(module)), sent["rows"]
    if set(mine) != set(rows) or any(
        t.shape != unpacker.tensor(rows[n]).shape for n, t in mine.items()
    ):
        return {"tree": describe(module, packer)}
    changed = {
        name: packer.tensor(t)
        for name, t in mine.items()
        if not torch.equal(t, unpacker.tensor(rows[name]))
    }
    return {"rows": changed} if changed else None


def apply_changes(module: RemoteModule, told: Any, unpacker: Unpacker) -> None:
    """Make a stand-in follow what a call changed in its module."""
    if type(told) is dict and "tree" in told:
        fill(module, told["tree"], unpacker, {})
        return
    mine, rows = dict(tensors_of(module)), _entry(told, "rows")
    if type(rows) is not dict:
        raise WireError("changes of a module that are no rows")
    with torch.no_grad():
        for name, row in rows.items():
            new = unpacker.tensor(row)
            if name not in mine or mine[name].shape != new.shape:
                raise WireError("a change of a parameter that is not there")
            mine[name].copy_(new)


def parameters_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of every parameter."""
    return {n: p.detach().clone() for n, p in module.named_parameters(remove_duplicate=False)}


def differing(module: nn.Module, kept: dict[str, torch.Tensor]) -> list[str]:
    """Names under which a module has other numbers than these."""
    mine = dict(tensors_of(module))
    return [n for n, t in kept.items() if n not in mine or not torch.equal(mine[n], t)]


def put_back(module: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """Give a module these numbers again, where it has a place for them."""
    mine = dict(tensors_of(module))
    with torch.no_grad():
        for name, tensor in kept.items():
            if name in mine and mine[name].shape == tensor.shape:
                mine[name].copy_(tensor)


def _attribute(standin: Any, name: str) -> Any:
    if name.startswith("__") or "_far" not in standin.__dict__:
        raise AttributeError(f"{type(standin).__name__!r} object has no attribute {name!r}")
    return standin._far.peer.attribute(standin, name)


def _parameter(row: Any, unpacker: Unpacker, made: dict[int, Any]) -> nn.Parameter | None:
    if row is None:
        return None
    tensor = unpacker.tensor(row)
    if row not in made:
        grad = row in unpacker.grad
        made[row] = nn.Parameter(tensor, requires_grad=grad)
    return made[row]


def _entry(tree: Any, name: str) -> Any:
    if type(tree) is not dict or name not in tree:
        raise WireError(f"a description without {name!r}")
    return tree[name]


def _named(tree: Any, kind: str, width: int) -> list[Any]:
    items = _entry(tree, kind)
    if type(items) is not list or any(
        type(i) is not list or len(i) != width or type(i[0]) is not str or "." in i[0]
        for i in items
    ):
        raise WireError(f"a description whose {kind!r} are no named entries")
    return items
