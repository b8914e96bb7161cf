"""Pages in one file: no script, nothing fetched, readable in light and dark and on a phone.

Everything that goes into a page is escaped here. The policy in the head lets a browser use the one
style sheet (by its hash) and images inside the page, and nothing else, whatever the text may hold.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
import struct

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fbfbfa; --card: #ffffff; --ink: #1c1e21; --soft: #5a6069; --line: #dfe1e5;
  --good: #1a7f4b; --bad: #b3261e; --warn: #8a5a00; --link: #2458b8; --bar: #3b6fd4;
  --good-ground: #e9f5ee; --bad-ground: #fcedeb; --warn-ground: #fdf4e1; --code: #f5f6f7;
  --keyword: #8b2f97; --string: #1a6b3c; --number: #9a4a00; --comment: #5f666f; --name: #1f4fae;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --card: #1d2024; --ink: #e7e9ec; --soft: #a5acb6; --line: #363b42;
    --good: #6fcf97; --bad: #ff9d94; --warn: #f0c060; --link: #9abcff; --bar: #7ea6f4;
    --good-ground: #17281f; --bad-ground: #2f1c1b; --warn-ground: #2b2412; --code: #24282d;
    --keyword: #dba1ea; --string: #93d8ab; --number: #f0b27a; --comment: #a0a8b2; --name: #a8c4ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: anywhere;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 54rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
ul { padding-left: 1.25rem; }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; text-align: right; }
.card {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem;
  padding: 1rem 1.1rem; margin: 1rem 0;
}
.note { border-left: .3rem solid var(--warn); background: var(--warn-ground); }
.stop { border-left: .3rem solid var(--bad); background: var(--bad-ground); }
.card > :first-child { margin-top: 0; } .card > :last-child { margin-bottom: 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { font-size: .8rem; font-weight: 600; color: var(--soft); }
tbody th { font-size: 1rem; font-weight: 400; color: inherit; }
tbody tr:last-child > * { border-bottom: 0; }
caption { text-align: left; padding-bottom: .35rem; }
tr > :first-child { padding-left: 0; } tr > :last-child { padding-right: 0; }
pre {
  margin: .5rem 0; padding: .75rem .9rem; overflow-x: auto; background: var(--code);
  border: 1px solid var(--line); border-radius: .4rem; overflow-wrap: normal;
  font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .9em; }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--link); }
img, svg { max-width: 100%; height: auto; }
figure img { background: #ffffff; border-radius: .3rem; }
figure { margin: .75rem 0; }
.bar { display: block; width: 100%; height: .6rem; border-radius: .3rem; }
.bar .ground { fill: var(--line); } .bar .share { fill: var(--bar); }
"""


def page(title: str, body: str, style: str = "") -> str:
    """A whole document.

    Args:
        title: plain text.
        body: markup, every piece of text in it escaped.
        style: rules beside :data:`STYLE`.
    """
    sheet = STYLE + style
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{sheet}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


# control characters, marks that reorder a line, and characters that cannot be seen at all
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def visible(value: str) -> str:
    """A text in which what a reader could not see stands as its code, like ``⟨U+202E⟩``."""
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", value)


def text(value: object) -> str:
    """Any text as markup."""
    return html.escape(visible(str(value)), quote=True)


def count(value: float) -> str:
    """A number of points or submissions, without a needless ``.0``."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def pre(markup: str, label: str) -> str:
    """A block of code or output that scrolls within itself, also by keyboard."""
    return f'<pre tabindex="0" role="region" aria-label="{text(label)}">{markup}</pre>'


def bar(share: float) -> str:
    """A share from 0 to 1 as a bar; the number stands beside it in words."""
    width = round(200 * min(max(share, 0.0), 1.0), 1)
    return (
        '<svg class="bar" viewBox="0 0 200 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="ground" width="200" height="6"/>'
        f'<rect class="share" width="{width}" height="6"/></svg>'
    )


_TOKENS = {
    "Keyword": "keyword",
    "Operator.Word": "keyword",
    "Literal.String": "string",
    "Literal.Number": "number",
    "Comment": "comment",
    "Name.Function": "name",
    "Name.Class": "name",
    "Name.Decorator": "name",
}
CODE_STYLE = """
pre .keyword { color: var(--keyword); } pre .string { color: var(--string); }
pre .number { color: var(--number); text-align: inherit; } pre .name { color: var(--name); }
pre .comment { color: var(--comment); font-style: italic; }
"""
LONG = 8_000  # characters of code beyond which it is shown without colours
CUT = 60_000  # and cut


def code(source: str) -> str:
    """Python as markup with classes of :data:`CODE_STYLE`; never fails, whatever the source."""
    source = source[:CUT] + ("\n… the rest is left out" if len(source) > CUT else "")
    if len(source) > LONG:
        return text(source)
    from pygments.lexers import PythonLexer

    parts: list[str] = []
    for token, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(source):
        name = str(token).removeprefix("Token.")
        kind = next((c for prefix, c in _TOKENS.items() if name.startswith(prefix)), None)
        parts.append(f'<span class="{kind}">{text(value)}</span>' if kind else text(value))
    return "".join(parts)


PIXELS = 4000  # of a side of an image


def image(kind: str, data: bytes, label: str) -> str:
    """An image inside the page; nothing where the bytes are not a PNG or JPEG of a sane size."""
    size = _png_size(data) if kind == "png" else _jpeg_size(data) if kind == "jpeg" else None
    if size is None or not all(0 < side <= PIXELS for side in size):
        return ""
    encoded = base64.b64encode(data).decode("ascii")
    return (
        f'<figure><img alt="{text(label)}" width="{size[0]}" height="{size[1]}" '
        f'src="data:image/{kind};base64,{encoded}"></figure>'
    )


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    return struct.unpack(">II", data[16:24])


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the first frame header (ITU T.81, section B.2.2)."""
    if data[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return width, height
        place += 2 + length
    return None
