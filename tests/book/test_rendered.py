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


@pytest.fixture
def visit(browser, site):
    """Opens a page of the book; every request to elsewhere is refused and remembered."""
    contexts = []

    def open_page(name: str, width: int = 1400, theme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
        contexts.append(context)
        context.add_init_script(
            f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');"
        )
        page = context.new_page()
        page.strangers, page.complaints = [], []

        def decide(route):
            if route.request.url.startswith((site, "data:", "blob:")):
                route.continue_()
            else:
                page.strangers.append(route.request.url)
                route.abort()

        page.route("**/*", decide)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(f"{site}/{name}.html", wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_from_the_network_and_shows_its_mathematics(visit, name):
    page = visit(name)
    assert not page.strangers, f"{name} asks for {page.strangers}"
    assert not page.complaints, f"{name}: {page.complaints}"
    unrendered = page.locator(".math:not(:has(mjx-container))").count()
    assert unrendered == 0, f"{name} has {unrendered} formulas that were not set"
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
    assert not broken, f"{name} has images that do not show: {broken}"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_does_not_scroll_sideways(visit, name, width, theme):
    page = visit(name, width, theme)
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 0, f"{name} is {wide} pixels too wide at {width}"
    assert page.evaluate("document.documentElement.dataset.theme") == theme


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("book/")])
def test_every_figure_has_words_for_those_who_cannot_see_it(visit, name):
    page = visit(name)
    silent = page.evaluate(
        "[...document.querySelectorAll('.bd-article img')].filter(i => !i.alt.trim()"
        " || /\\.(svg|png)$/.test(i.alt)).map(i => i.src)"
    )
    assert not silent, f"{name} has figures without alternative text: {silent}"


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("exercises/")])
def test_a_released_exercise_can_be_downloaded_from_its_page(visit, name):
    page = visit(name)
    button = page.locator("a[href$='.ipynb']").first
    with page.expect_download() as download:
        button.evaluate("link => { link.download = ''; link.click(); }")
    notebook = nbformat.read(download.value.path(), as_version=4)
    released = nbformat.read(book.ROOT / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in released.cells]


def test_the_reading_order_names_each_page_once():
    assert len(PAGES) == len(set(PAGES))
    assert yaml.safe_load((book.ROOT / "_toc.yml").read_text())["root"] == PAGES[0]
