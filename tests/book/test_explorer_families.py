"""The filter on the page of the three families shows the tasks that two answers leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from browsing import started

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "book" / "_static" / "explorer_families.js"
PAGE = ROOT / "book" / "06_transformer" / "three_families.md"

pytestmark = pytest.mark.xdist_group("rendered")


@pytest.fixture(scope="module")
def browser(chromium):
    with started(chromium) as found:
        yield found


@pytest.fixture
def page(browser):
    text = PAGE.read_text("utf-8")
    html = text.partition("```{raw} html\n")[2].partition("<script")[0]
    page = browser.new_page()
    page.set_content(html)
    page.add_script_tag(path=str(SCRIPT))
    yield page
    page.close()


def families(page) -> set[str]:
    return set(page.locator("#families tbody tr:visible td:last-child").all_inner_texts())


def answer(page, question: str, choice: str) -> None:
    page.get_by_role("group", name=question).get_by_role("button", name=choice).click()


def test_nothing_is_hidden_before_a_question_is_answered(page):
    assert families(page) == {"encoder-only", "decoder-only", "encoder–decoder"}


@pytest.mark.parametrize(
    ("writes", "complete", "family"),
    [
        ("no", "yes", "encoder-only"),
        ("yes", "no", "decoder-only"),
        ("yes", "yes", "encoder–decoder"),
    ],
)
def test_two_answers_leave_one_family(page, writes, complete, family):
    answer(page, "Does it write text?", writes)
    answer(page, "Is there an input", complete)
    assert families(page) == {family}
    assert family in page.get_by_role("status").inner_text()


def test_a_chosen_button_says_so_to_a_screen_reader(page):
    answer(page, "Does it write text?", "no")
    group = page.get_by_role("group", name="Does it write text?")
    pressed = [b.get_attribute("aria-pressed") for b in group.get_by_role("button").all()]
    assert pressed == ["false", "false", "true"]
