"""The corpus of source code: each kind of text, on files made here and on the real library."""

from __future__ import annotations

import ast
import io
import tokenize

import pytest

from lookback.data import source_code

FILE = '''#!/usr/bin/env python
"""What the module does.

    Indented.
"""
# A note: with # twice
import os  # why

class A:
    "One line."
    x = "# no comment, \\""

    async def f(self):
        """A docstring
        of two lines."""  # and a comment behind
        return os, """not a
        # docstring"""

def g(): "shares its line"
'''


def test_comments_come_without_their_marks_and_strings_are_none():
    assert source_code.extract(FILE, "comments").split("\n") == [
        "/usr/bin/env python",
        "A note: with # twice",
        "why",
        "and a comment behind",
    ]


def test_docstrings_come_in_the_order_of_the_file_without_common_indentation():
    assert source_code.extract(FILE, "docstrings").split("\n\n") == [
        "What the module does.",
        "Indented.",
        "One line.",
        "A docstring\nof two lines.",
        "shares its line",
    ]


def test_code_is_what_is_left_with_its_indentation():
    assert source_code.extract(FILE, "code").split("\n") == [
        "import os",
        "class A:",
        '    x = "# no comment, \\""',
        "    async def f(self):",
        '        return os, """not a',
        '        # docstring"""',
        'def g(): "shares its line"',
    ]
    assert source_code.extract(FILE, "source") == FILE.strip("\n")


def test_lines_are_counted_as_python_counts_them_and_what_is_not_python_gives_nothing():
    form_feed = 'x = 1\n\f\n# a\ny = "é"  # b\n'
    assert source_code.extract(form_feed, "code") == 'x = 1\ny = "é"'
    for kind in source_code.KINDS:
        assert source_code.extract("print 'two'", kind) == ""
        assert source_code.extract("x = '\0'", kind) == ""


@pytest.fixture
def library(tmp_path):
    """A folder of twelve modules, two of them broken, and files that are left out."""
    for n in range(10):
        (tmp_path / f"m{n}.py").write_text(f"x = {n}  # comment {n}\n", "utf-8")
    (tmp_path / "broken.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "old.py").write_bytes(b"# -*- coding: nonsense -*-\nx = 1\n")
    (tmp_path / "_sysconfigdata__linux.py").write_text("secret = 1\n")
    for left_out in ("test", "site-packages"):
        (tmp_path / left_out).mkdir()
        (tmp_path / left_out / "a.py").write_text("secret = 2\n")
    return tmp_path


def test_files_come_in_order_every_tenth_for_validation_and_tests_left_out(library):
    assert [p.name for p in source_code.files(library)] == [
        "broken.py",
        *(f"m{n}.py" for n in range(10)),
        "old.py",
    ]
    assert source_code.load("comments", part="validation", root=library) == "comment 8\n"
    train = source_code.load("code", root=library)
    assert train == "".join(f"x = {n}\n" for n in range(10) if n != 8)


def test_size_cuts_the_text_to_the_character(library):
    whole = source_code.load("comments", root=library)
    for size in (1, 10, 11, len(whole), len(whole) + 5):
        assert source_code.load("comments", root=library, size=size) == whole[:size]


def test_the_interpreters_own_library_has_every_kind_of_text_and_no_warning(recwarn):
    for kind in source_code.KINDS:
        text = source_code.load(kind, size=5_000)
        assert len(text) == 5_000
        assert text == source_code.load(kind, size=5_000)
    assert not recwarn.list
    paths = source_code.files()
    assert len(paths) > 300
    assert not [path for path in paths if "test" in path.parts]


def test_code_of_real_files_keeps_no_comment_and_parses_but_for_emptied_bodies():
    for path in source_code.files()[5:400:40]:
        code = source_code.extract(path.read_text("utf-8"), "code")
        try:
            ast.parse(code)
        except IndentationError:  # a body that was a docstring alone
            continue
        tokens = tokenize.generate_tokens(io.StringIO(code).readline)
        assert not [t for t in tokens if t.type == tokenize.COMMENT], path


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: source_code.load("prose"), "unknown kind 'prose'; choose one of source, code"),
        (lambda: source_code.extract("", "prose"), "unknown kind 'prose'"),
        (lambda: source_code.load(part="test"), "unknown part 'test'"),
        (lambda: source_code.load(size=0), "size must be at least 1 character, got 0"),
    ],
)
def test_the_corpus_names_what_it_does_not_know(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_a_folder_without_source_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="give as root a folder"):
        source_code.load(root=tmp_path)
