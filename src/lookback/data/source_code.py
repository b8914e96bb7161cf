"""A language corpus that every Python has at hand: the source of its own standard library.

Comments, docstrings and code, by the CPython developers (PSF License 2.0), read where they lie on
this interpreter: some 9 million characters (5.5 of code, 1 of comments, 1.6 of docstrings). Files
come in the order of their paths; another version of Python has another text.
"""

from __future__ import annotations

import ast
import io
import os
import sysconfig
import tokenize
import warnings
from pathlib import Path

KINDS = ("source", "code", "comments", "docstrings")
PARTS = ("train", "validation")
# tests, tables and what the machine or its owner put there
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data", "turtledemo"} | {
    "site-packages",
    "dist-packages",
    "__pycache__",
}


def load(
    kind: str = "source", *, part: str = "train", size: int | None = None, root: Path | None = None
) -> str:
    """The corpus as one text, file after file.

    Args:
        kind: ``"source"`` (files as they are), ``"code"`` (without comments and docstrings),
            ``"comments"`` or ``"docstrings"``. A docstring that shares its line with code stays.
        part: every tenth file is ``"validation"``, the others are ``"train"``.
        size: largest number of characters; everything when left out.
        root: folder to read; the standard library's when left out.

    Returns:
        The text, cut at ``size`` characters.

    Raises:
        FileNotFoundError: if the folder holds no Python source.
        ValueError: if ``kind`` or ``part`` is unknown, or ``size`` is below 1.
    """
    for name, value, known in (("kind", kind, KINDS), ("part", part, PARTS)):
        if value not in known:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")
    if size is not None and size < 1:
        raise ValueError(f"size must be at least 1 character, got {size}")
    texts, length = [], 0
    for n, path in enumerate(files(root)):
        if (n % 10 == 9) != (part == "validation"):
            continue
        text = extract(_read(path), kind)
        if text:
            texts.append(text + "\n")
            length += len(texts[-1])
        if size is not None and length >= size:
            break
    return "".join(texts)[:size]


def files(root: Path | None = None) -> list[Path]:
    """The library's source files, without tests and tables, in the order of their paths.

    Raises:
        FileNotFoundError: if there are none.
    """
    root = Path(sysconfig.get_path("stdlib") if root is None else root)
    kept = []
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name not in _LEFT_OUT]  # walk no further there
        for name in names:
            # _sysconfigdata… differs from machine to machine
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                kept.append(Path(folder, name).relative_to(root).as_posix())
    if not kept:
        raise FileNotFoundError(
            f"{root} holds no Python source: give as root a folder that holds .py files"
        )
    return [root / name for name in sorted(kept)]


def extract(source: str, kind: str) -> str:
    """One kind of text of one file; nothing of a file that is not valid Python.

    Raises:
        ValueError: if the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; choose one of {', '.join(KINDS)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of escapes, which are not our text's
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    if kind == "source":
        return source.strip("\n")
    if kind == "docstrings":
        return "\n\n".join(ast.get_docstring(node) or "" for node in _documented(tree)).strip("\n")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    if kind == "comments":
        texts = [t.string.lstrip("#!: ").rstrip() for t in comments]
        return "\n".join(text for text in texts if text)
    return _code_alone(source, tree, comments)


def _code_alone(source: str, tree: ast.Module, comments: list[tokenize.TokenInfo]) -> str:
    lines = source.split("\n")  # as the tokeniser counts them; splitlines breaks at form feeds too
    for comment in comments:
        row, column = comment.start
        lines[row - 1] = lines[row - 1][:column].rstrip()
    for node in _documented(tree):
        text = node.body[0]
        first, last = lines[text.lineno - 1], lines[text.end_lineno - 1]
        before, behind = first.encode()[: text.col_offset], last.encode()[text.end_col_offset :]
        if not before.strip() and not behind.strip():  # else it shares its line with code
            lines[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _documented(tree: ast.Module) -> list[ast.AST]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    found = [node for node in nodes if ast.get_docstring(node, clean=False) is not None]
    return sorted(found, key=lambda node: node.body[0].lineno)


def _read(path: Path) -> str:
    """The text of a file, decoded as its own first lines declare; nothing if it is not so."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError):
        return ""
