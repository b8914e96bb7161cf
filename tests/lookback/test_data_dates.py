"""Dates: Babel's own text, and an origin for every digit."""

from __future__ import annotations

import datetime

import pytest
import torch
from babel.dates import format_date

from lookback.data import dates
from lookback.metrics import alignment_error_rate


def test_the_text_is_babels_and_the_target_iso_for_every_locale_and_style():
    day = datetime.date(2016, 3, 5)
    for locale in (*dates.LOCALES, "pt_BR", "th", "hu", "ar", "vi"):
        for style in dates.STYLES:
            date = dates.write(day, locale, style)
            assert date.text == format_date(day, style, locale=locale)
            assert date.target == "2016-03-05"
            assert date.source == (f"<{locale}>", *date.text)


def test_a_sure_link_copies_its_digit_and_lies_among_the_possible_ones():
    for date in dates.sample(300, seed=1):
        for character, sure, possible in zip(date.target, date.sure, date.possible, strict=True):
            assert set(sure) <= set(possible)
            assert [date.source[s] for s in sure] in ([], [character])
            assert bool(possible) == (character != "-")
        year = [date.source[s] for s in date.possible[0]]
        assert "".join(year) in (date.target[:4], date.target[2:4])


def test_links_of_one_date_worked_by_hand():
    date = dates.write(datetime.date(2016, 3, 5), "fr", "full")
    assert date.text == "samedi 5 mars 2016"
    # positions count the locale token: s a m e d i are 1 to 6, the 5 is 8, mars 10 to 13
    assert date.sure == ((15,), (16,), (17,), (18,), (), (), (), (), (), (8,))
    year, month, day = (15, 16, 17, 18), (10, 11, 12, 13), (8,)
    assert date.possible == (*[year] * 4, (), month, month, (), day, day)
    short = dates.write(datetime.date(2016, 12, 5), "en_US", "short")
    assert short.text == "12/5/16"
    assert short.sure == ((), (), (6,), (7,), (), (1,), (2,), (), (), (4,))


def test_with_the_locale_a_source_has_one_target_whatever_the_style():
    targets: dict[tuple[str, ...], str] = {}
    for date in dates.sample(4000, styles=("short", "medium"), seed=2):
        assert targets.setdefault(date.source, date.target) == date.target
    # without it day and month change places from land to land
    day, month = datetime.date(2016, 3, 5), datetime.date(2016, 5, 3)
    ambiguous = dates.write(day, "el", "short"), dates.write(month, "en_US", "short")
    assert ambiguous[0].text == ambiguous[1].text
    assert ambiguous[0].target != ambiguous[1].target


def test_a_seed_gives_the_same_dates_in_the_range_asked_for():
    asked = {
        "locales": ["zh"],
        "styles": ["long"],
        "first": datetime.date(1999, 12, 30),
        "last": datetime.date(2000, 1, 1),
    }
    sample = dates.sample(50, **asked, seed=5)
    assert sample == dates.sample(50, **asked, seed=5) != dates.sample(50, **asked, seed=6)
    assert {date.locale for date in sample} == {"zh"}
    assert {date.target for date in sample} == {"1999-12-30", "1999-12-31", "2000-01-01"}
    generator = torch.Generator().manual_seed(5)
    assert dates.sample(20, seed=generator) != dates.sample(20, seed=generator)


def test_links_of_a_batch_are_padded_and_judge_a_perfect_alignment_as_perfect():
    sample = dates.sample(6, seed=3)
    sure, possible = dates.links(sample)
    S = max(len(date.source) for date in sample)
    assert sure.shape == possible.shape == (6, 11, S)
    for n, date in enumerate(sample):
        for t in range(10):
            assert tuple(sure[n, t].nonzero().flatten().tolist()) == date.sure[t]
            assert tuple(possible[n, t].nonzero().flatten().tolist()) == date.possible[t]
    assert not possible[:, 10].any()
    assert alignment_error_rate(sure, sure, possible) == 0
    assert alignment_error_rate(possible, sure, possible) == 0
    assert alignment_error_rate(sure.roll(1, 2), sure, possible) > 0.2


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: dates.sample(0), "n must be at least 1, got 0"),
        (lambda: dates.sample(1, locales=["xx_YY"]), "unknown locale 'xx_YY'"),
        (lambda: dates.sample(1, styles=["tiny"]), "unknown style 'tiny'; choose one of short"),
        (lambda: dates.sample(1, locales=[]), "nothing to draw from"),
        (
            lambda: dates.sample(1, first=dates.LAST_DAY, last=dates.FIRST_DAY),
            "nothing to draw from: .* 2049-12-31 to 1950-01-01",
        ),
        (lambda: dates.links([]), "there is no example to link"),
    ],
)
def test_dates_name_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
