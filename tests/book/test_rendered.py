"""The rendered book: executed, whole, readable on every screen, and silent towards the network."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import nbformat
import pytest
import yaml

import book

PAGES = book.contents()
HTML = book.HTML

# one worker, so that one browser serves all pages
pytestmark = pytest.mark.xdist_group("rendered")


@pytest.fixture(scope="module", autouse=True)
def rendered() -> Path:
    assert (HTML / "index.html").is_file(), "the book is not built: run `make book` first"
    return HTML


class Links(HTMLParser):
    """Every address that a page points to, and every place in it that can be pointed at."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if attributes.get("id"):
            self.places.add(attributes["id"])
        name = {"a": "href", "img": "src", "script": "src", "link": "href"}.get(tag)
        if name and attributes.get(name):
            self.addresses.append(attributes[name])


@functools.cache
def links(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text("utf-8"))
    return parser


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("book/")])
def test_every_code_cell_of_a_page_ran_without_an_error(name):
    page = book.read_page(name)
    if page.notebook is None:
        return
    assert book.stored_key(page) == book.fingerprint(page), f"{name} was not executed as it is now"
    for number, cell in enumerate(page_cells(book.STAGE / f"{name}.ipynb")):
        assert cell.execution_count, f"{name}, code cell {number + 1} was not executed"
        assert all(o.output_type != "error" for o in cell.outputs)
        assert all(o.get("name") != "stderr" for o in cell.outputs)


def page_cells(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


@pytest.mark.parametrize("name", PAGES)
def test_every_internal_link_of_a_page_leads_somewhere(name):
    page = HTML / f"{name}.html"
    for address in links(page).addresses:
        url = urlparse(address)
        if url.scheme or url.netloc:
            continue
        target = (page.parent / unquote(url.path)).resolve() if url.path else page
        assert target.exists(), f"{name} points to {address}"
        if url.fragment and target.suffix == ".html":
            assert unquote(url.fragment) in links(target).places | {"top"}, (
                f"{name} points to {address}"
            )


def test_every_page_of_the_book_stands_in_the_table_of_contents():
    on_disk = {
        path.relative_to(book.ROOT).with_suffix("").as_posix()
        for path in (book.ROOT / "book").rglob("*.md")
        if "_static" not in path.parts
    }
    assert on_disk == {name for name in PAGES if name.startswith("book/")}


def test_every_measured_claim_names_a_page_that_exists():
    rows = json.loads((book.ROOT / book.CLAIMS).read_text("utf-8"))["claims"]
    measured = [row for row in rows if row["measurements"]]
    assert measured
    for row in measured:
        for measurement in row["measurements"]:
            assert measurement["page"] in PAGES
            assert measurement["figures"]
            assert measurement["device"]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing: the test's own output is what a person reads."""


@pytest.fixture(scope="module")
def site(rendered):
    """The book on a loopback port."""
    handler = functools.partial(QuietHandler, directory=str(HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield started
        started.close()


LOOK = """() => ({
  wide: document.documentElement.scrollWidth - window.innerWidth,
  theme: document.documentElement.dataset.theme,
  formulas: [...document.querySelectorAll('.math')].filter(
    m => !m.querySelector('mjx-container')).length,
  broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src),
  silent: [...document.querySelectorAll('.bd-article img')].filter(
    i => !i.alt.trim() || /\\.(svg|png)$/.test(i.alt)).map(i => i.src),
})"""
SET = "() => !window.MathJax?.startup?.promise || MathJax.startup.promise.then(() => true)"


@pytest.fixture(scope="module")
def look(browser, site):
    """What a reader's browser sees of a page, in both themes, wide and on a phone's width."""
    seen: dict[str, dict] = {}

    def visit(name: str) -> dict:
        found = {"strangers": [], "complaints": [], "looks": {}}
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1400, "height": 900}, color_scheme=theme
            )
            context.add_init_script(
                f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')"
            )
            page = context.new_page()
            context.route("**/*", lambda route: decide(route, found["strangers"]))
            page.on("pageerror", lambda error: found["complaints"].append(str(error)))
            page.goto(f"{site}/{name}.html")
            page.wait_for_function(SET)
            for width in (1400, 390):
                page.set_viewport_size({"width": width, "height": 900})
                found["looks"][theme, width] = page.evaluate(LOOK)
            context.close()
        return found

    def decide(route, strangers) -> None:
        if route.request.url.startswith((site, "data:", "blob:")):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    def remembered(name: str) -> dict:
        if name not in seen:
            seen[name] = visit(name)
        return seen[name]

    return remembered


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_nothing_of_the_network_and_runs_without_a_complaint(look, name):
    assert not look(name)["strangers"]
    assert not look(name)["complaints"]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_its_mathematics_and_its_figures_in_both_themes(look, name):
    for (theme, width), page in look(name)["looks"].items():
        assert page["theme"] == theme
        assert page["formulas"] == 0, f"{page['formulas']} formulas were not set"
        assert not page["broken"], f"images that do not show at {width}: {page['broken']}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_not_scroll_sideways(look, name):
    for (theme, width), page in look(name)["looks"].items():
        assert page["wide"] <= 0, f"{page['wide']} pixels too wide at {width}, {theme}"


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_has_words_for_those_who_cannot_see_it(look, name):
    assert not look(name)["looks"]["light", 1400]["silent"]


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("exercises/")])
def test_a_released_exercise_can_be_downloaded_from_its_page(browser, site, name):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site}/{name}.html")
    with page.expect_download() as download:
        page.evaluate("document.querySelector(\"a[href$='.ipynb']\").click()")
    notebook = nbformat.read(download.value.path(), as_version=4)
    context.close()
    released = nbformat.read(book.ROOT / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in released.cells]


def test_the_reading_order_names_each_page_once():
    assert len(PAGES) == len(set(PAGES))
    assert yaml.safe_load((book.ROOT / "_toc.yml").read_text())["root"] == PAGES[0]
