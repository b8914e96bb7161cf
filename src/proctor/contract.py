"""What a check may do, held when an exercise is released and not when it is graded.

A check runs in the student's notebook and, under proctor, on the other side of a boundary. What
would work here and not there, or would make a difference between them, is refused with its line.
A check may hold that an argument was left as it was (``checks.unchanged``); it may not ask for one
to be written to, since a result that holds only for what a call left behind earns nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from proctor.exercise import Exercise, Part

MODULES = {
    "inspect": "the source of a student's function does not cross: hold it to what it returns",
    "gc": "objects of the student's process do not cross",
    "dis": "the code of a student's function does not cross",
    "ctypes": "memory does not cross",
    "pickle": "nothing is pickled across the boundary",
    "unittest": "patches do not cross: lend a reference with checks.given",
    "mock": "patches do not cross: lend a reference with checks.given",
    "time": "time is measured from outside: a check that times itself is flaky",
    "timeit": "time is measured from outside: a check that times itself is flaky",
    "subprocess": "a check starts no processes",
    "threading": "a check starts no threads",
    "lookback.training": "a check does not train",
}
CALLS = {
    "gradcheck": "finite differences never cross: compare one backward pass with the reference's",
    "gradgradcheck": "double backward does not cross",
    "isinstance": "the student's object is a stand-in under proctor: hold it to what it does",
    "issubclass": "the student's class is a stand-in under proctor: hold it to what it does",
    "print": "a check is silent: say it in the message of a failure",
    "eval": "a check evaluates no text",
    "exec": "a check runs no text",
    "globals": "the namespace of a check is not the student's: use checks.given",
    "locals": "the namespace of a check is not the student's",
    "setattr": "setting attributes does not cross",
    "id": "identity does not cross",
    "vars": "the inside of a student's object does not cross",
    "_getframe": "frames do not cross",
    "deepcopy": "copy a state_dict instead: the student's object is a stand-in under proctor",
    "register_forward_hook": "hooks do not cross",
    "register_forward_pre_hook": "hooks do not cross",
    "register_full_backward_hook": "hooks do not cross",
    "register_hook": "hooks do not cross",
    "as_subclass": "subclasses of Tensor do not cross",
    "compile": "compiled functions do not cross",
    "vmap": "transforms of torch.func do not cross: call the function once for each",
    "jacrev": "transforms of torch.func do not cross: take one gradient for each output",
    "jacfwd": "transforms of torch.func do not cross: take one gradient for each output",
    "jvp": "forward-mode gradients do not cross",
    "hessian": "double backward does not cross",
}
OWN = (
    "isinstance",
    "id",
    "vars",
    "setattr",
    "deepcopy",
    "issubclass",
)  # refused on students' names


@dataclass(frozen=True)
class Breach:
    """One line of a check that breaks the contract.

    Args:
        check: its ``grade_id``.
        line: counted from 1 within the cell.
        reason: why, and what to do instead.
    """

    check: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.check}, line {self.line}: {self.reason}"


def breaches(exercise: Exercise) -> list[Breach]:
    """Every breach in the checks of an exercise, in order."""
    students = {name for answer in exercise.answers for name in answer.names}
    return [breach for check in exercise.checks for breach in _in_check(check, students)]


def _in_check(check: Part, students: set[str]) -> Iterator[Breach]:
    try:
        tree = ast.parse(check.source)
    except SyntaxError as error:
        yield Breach(check.grade_id, error.lineno or 1, f"it is no Python: {error.msg}")
        return
    yield from (Breach(check.grade_id, *found) for found in _at_end(tree))
    ours = students | _made_from(tree, students)
    for node in ast.walk(tree):
        for line, reason in _in_node(node, students, ours):
            yield Breach(check.grade_id, line, reason)


def _at_end(tree: ast.Module) -> Iterator[tuple[int, str]]:
    last = tree.body[-1] if tree.body else None
    if last is None:
        yield 1, "there is no test in it: whoever hands in gets its points"
    elif isinstance(last, ast.Expr) and not isinstance(last.value, ast.Call):
        yield last.lineno, "it ends in a value, which nbgrader takes for partial credit"


def _in_node(node: ast.AST, students: set[str], ours: set[str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
        for name in names:
            for module, reason in MODULES.items():
                if f"{name}.".startswith(f"{module}."):
                    yield node.lineno, f"{name} is imported; {reason}"
    elif isinstance(node, ast.Call):
        name = _last(node.func)
        about = not node.args or any(_root(a) in ours for a in node.args)
        torch_only = name not in ("compile", "jvp") or _root(node.func) == "torch"
        if name in CALLS and torch_only and (name not in OWN or about):
            yield node.lineno, f"{name} is called; {CALLS[name]}"
        for word in node.keywords:
            if word.arg == "create_graph" and getattr(word.value, "value", True):
                yield node.lineno, "create_graph is set; double backward does not cross"
    elif isinstance(node, ast.Attribute) and node.attr.startswith("__") and _root(node) in ours:
        yield node.lineno, f"{node.attr} of a student's object is read; it does not cross"
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and _root(target) in ours:
                if target.attr not in ("grad", "data") and not _is_tensor_part(target):
                    yield (
                        node.lineno,
                        "an attribute of a student's object is set; it does not cross",
                    )
            elif isinstance(target, ast.Name) and target.id in students:
                yield node.lineno, f"{target.id} is overwritten: lend it with checks.given"
    elif isinstance(node, ast.ClassDef):
        if any(_root(base) in ours for base in node.bases):
            yield node.lineno, f"{node.name} inherits from a student's class; it does not cross"
        if any(_last(base) == "Tensor" for base in node.bases):
            yield node.lineno, f"{node.name} is a subclass of Tensor; it does not cross"


def _made_from(tree: ast.Module, students: set[str]) -> set[str]:
    """Names of what a check builds from a student's class: ``layer = MultiHeadAttention(8, 2)``."""
    classes = {name for name in students if name[:1].isupper()}
    return {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Name) and _root(node.value.func) in classes
    }


def _is_tensor_part(target: ast.Attribute) -> bool:
    """Whether what is set belongs to a parameter, as in ``layer.weight.grad = None``."""
    return isinstance(target.value, ast.Attribute) and target.attr in ("grad", "data")


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
