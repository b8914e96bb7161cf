"""Pages in Chromium, with every request but the page itself refused and remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def started(chromium: str) -> Iterator[object]:
    """The browser, for as many pages as a test file opens."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


def opened(browser, path: Path, width: int = 390, scheme: str = "light"):
    """A page and the list of what happened on it: requests, dialogs, new windows, other places."""
    tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    events: list[str] = []

    def decide(found) -> None:
        if found.request.url == path.as_uri():
            found.continue_()
        else:
            events.append(f"asked for {found.request.url}")
            found.abort()

    tab.route("**/*", decide)
    tab.on("dialog", lambda dialog: (events.append(f"said {dialog.message}"), dialog.dismiss()))
    tab.on("popup", lambda popup: events.append(f"opened {popup.url}"))
    tab.on("framenavigated", lambda frame: events.append(f"went to {frame.url}"))
    tab.goto(path.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert events.pop(0) == f"went to {path.as_uri()}"
    return tab, events


def audited(browser, path: Path, scheme: str) -> str:
    """What axe finds wrong with a page, in words; nothing where it finds nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # the audit is a script, which the page's own policy would stop
    context = browser.new_context(
        bypass_csp=True, color_scheme=scheme, viewport={"width": 390, "height": 800}
    )
    tab = context.new_page()
    tab.goto(path.as_uri())
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    result = axe.Axe().run(tab)
    context.close()
    return result.generate_report() if result.violations_count else ""
