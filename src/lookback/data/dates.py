"""Dates in many languages and their ISO form, with the origin of every output character known.

``samedi 5 mars 2016`` → ``2016-03-05``. Formats and names are those of the Unicode CLDR that Babel
carries (Unicode License v3); the dates are drawn at random, as many as are asked for. The text
depends on Babel's version, which is why the course pins it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from lookback.data.links import links as links
from lookback.data.seeds import Seed, between, check_count, generator

LOCALES = ("en_US", "en_GB", "fr", "de", "es", "it", "nl", "pl", "tr", "ru", "zh", "ja")
STYLES = ("short", "medium", "long", "full")
FIRST_DAY, LAST_DAY = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
"""A hundred years: two digits of a year name one of them."""

# where year, month and day begin in YYYY-MM-DD, and how many digits they have
_FIELDS = {"y": (0, 4), "M": (5, 2), "L": (5, 2), "d": (8, 2)}


class Date(NamedTuple):
    """One date, written twice.

    Attributes:
        locale: which language and land wrote it.
        text: as written there.
        source: tokens of the input: the locale, as ``<fr>``, and the characters of ``text``.
        target: ``YYYY-MM-DD``.
        sure: for each character of ``target`` the positions in ``source`` it was copied from.
        possible: the positions that decide it: all of its year, month (also by name) or day.
            The hyphens come from nowhere.
    """

    locale: str
    text: str
    source: tuple[str, ...]
    target: str
    sure: tuple[tuple[int, ...], ...]
    possible: tuple[tuple[int, ...], ...]


def sample(
    n: int,
    *,
    locales: Sequence[str] = LOCALES,
    styles: Sequence[str] = STYLES,
    first: datetime.date = FIRST_DAY,
    last: datetime.date = LAST_DAY,
    seed: Seed = 0,
) -> list[Date]:
    """Draw ``n`` dates, locales and styles, each evenly and by itself.

    Without the locale token ``05/03/16`` would be two dates. With it, and within a hundred years,
    every source has one target.

    Args:
        n: number of dates.
        locales: Babel's names, as ``pt_BR``.
        styles: of ``"short"``, ``"medium"``, ``"long"``, ``"full"``.
        first, last: the range of days, both ends included.
        seed: an integer, or a generator that moves on.

    Raises:
        ValueError: if ``n`` is below 1, a locale or style is unknown, or a range is empty.
    """
    check_count(n)
    if not locales or not styles or last < first:
        raise ValueError(f"nothing to draw from: {locales}, {styles}, {first} to {last}")
    source = generator(seed)
    days = between(first.toordinal(), last.toordinal(), (n,), source).tolist()
    places = between(0, len(locales) - 1, (n,), source).tolist()
    kinds = between(0, len(styles) - 1, (n,), source).tolist()
    return [
        write(datetime.date.fromordinal(day), locales[place], styles[kind])
        for day, place, kind in zip(days, places, kinds, strict=True)
    ]


def write(day: datetime.date, locale: str, style: str) -> Date:
    """One date as ``locale`` writes it, and where each ISO character comes from.

    Raises:
        ValueError: if the locale or the style is unknown.
    """
    from babel import Locale, UnknownLocaleError
    from babel.dates import DateTimeFormat, get_date_format, tokenize_pattern

    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; choose one of {', '.join(STYLES)}")
    try:
        known = Locale.parse(locale)
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(f"unknown locale {locale!r}; Babel knows {', '.join(LOCALES)}…") from error
    fields = DateTimeFormat(day, known)
    text = ""
    sure: list[tuple[int, ...]] = [()] * 10
    possible: list[tuple[int, ...]] = [()] * 10
    for kind, part in tokenize_pattern(get_date_format(style, known).pattern):
        if kind == "chars":
            text += part
            continue
        letter, count = part
        written = fields[letter * count]
        if letter in _FIELDS:
            start, digits = _FIELDS[letter]
            at = 1 + len(text)  # the locale token stands in front
            for n in range(digits):
                possible[start + n] = tuple(range(at, at + len(written)))
                copied = len(written) - digits + n  # digits are aligned at their right ends
                if written.isdecimal() and copied >= 0:
                    sure[start + n] = (at + copied,)
        text += written
    source = (f"<{locale}>", *text)
    return Date(locale, text, source, day.isoformat(), tuple(sure), tuple(possible))
