"""Small English sentences and their French, with every link between the words known.

``the blue car`` → ``la voiture bleue``. Written by a grammar of a page, so that word order flips
where French wants it, articles, adjectives and participles agree in gender, and one English verb
has two words. Drawn at random, as many as are asked for; no licence needed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch

from lookback.data.links import links as links
from lookback.data.seeds import Seed, between, check_count, generator

NOUNS = {
    "cat": ("chat", "m"),
    "dog": ("chien", "m"),
    "horse": ("cheval", "m"),
    "mat": ("tapis", "m"),
    "boat": ("bateau", "m"),
    "cow": ("vache", "f"),
    "car": ("voiture", "f"),
    "house": ("maison", "f"),
    "chair": ("chaise", "f"),
    "door": ("porte", "f"),
}
ADJECTIVES = {  # English → masculine, feminine
    "blue": ("bleu", "bleue"),
    "black": ("noir", "noire"),
    "white": ("blanc", "blanche"),
    "green": ("vert", "verte"),
    "small": ("petit", "petite"),
    "big": ("grand", "grande"),
}
BEFORE = ("small", "big")
"""Adjectives that stand before their noun in French, too."""
VERBS = {  # English → words for a masculine, for a feminine subject
    "sat": (("était", "assis"), ("était", "assise")),
    "slept": (("dormait",), ("dormait",)),
    "waited": (("attendait",), ("attendait",)),
}
PREPOSITIONS = {"on": "sur", "under": "sous", "behind": "derrière"}


class Phrase(NamedTuple):
    """A sentence in both languages.

    Attributes:
        source: English words.
        target: French words.
        sure: for each French word the positions of the English words that it translates.
        possible: the same, and those that decide its form: the noun of an article, an adjective
            or a participle, the verb of an auxiliary.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: tuple[tuple[int, ...], ...]
    possible: tuple[tuple[int, ...], ...]


def sample(n: int, *, seed: Seed = 0, without: Collection[str] = ()) -> list[Phrase]:
    """Draw ``n`` phrases: a quarter ``the (adjective) noun``, the others whole sentences.

    Half of the nouns have an adjective. There are 70 phrases of the short kind and 44,100 of the
    long one, so a sample may hold one twice.

    Args:
        n: number of phrases.
        seed: an integer, or a generator that moves on.
        without: English sentences that are not to be drawn, to be tested with.

    Raises:
        ValueError: if ``n`` is below 1.
    """
    check_count(n)
    source = generator(seed)
    found: list[Phrase] = []
    while len(found) < n:
        text = _noun_phrase(source)
        if int(between(0, 3, (1,), source)):
            verb, preposition = _pick(VERBS, source), _pick(PREPOSITIONS, source)
            text = f"{text} {verb} {preposition} {_noun_phrase(source)}"
        if text not in without:
            found.append(write(text))
    return found


def write(text: str) -> Phrase:
    """The phrase of an English sentence of this grammar, with its French.

    Args:
        text: ``the (adjective) noun``, which ``verb preposition the (adjective) noun`` may follow.

    Raises:
        ValueError: naming the word that the grammar does not expect.
    """
    words = text.split()
    french, place, gender = _translate_noun_phrase(words, 0)
    if place < len(words):
        subject, verb = place - 1, place
        forms = VERBS[_expect(words, verb, VERBS, "a verb")][gender == "f"]
        possible = (subject, verb) if len(forms) > 1 else (verb,)
        french += [(form, (), (verb,)) for form in forms[:-1]]  # the auxiliary
        french.append((forms[-1], (verb,), possible))
        preposition = _expect(words, verb + 1, PREPOSITIONS, "a preposition")
        french.append((PREPOSITIONS[preposition], (verb + 1,), (verb + 1,)))
        last, place, _ = _translate_noun_phrase(words, verb + 2)
        french += last
    if place < len(words):
        raise ValueError(f"the sentence should end before {words[place]!r}: {text!r}")
    target, sure, possible = zip(*french, strict=True)
    return Phrase(tuple(words), target, sure, possible)


def _translate_noun_phrase(words: list[str], start: int) -> tuple[list[tuple], int, str]:
    """French words with their sure and possible links, the place behind, and the gender."""
    _expect(words, start, ("the",), "'the'")
    place = start + 1
    described = place < len(words) and words[place] in ADJECTIVES
    at = place + described
    noun, gender = NOUNS[_expect(words, at, NOUNS, "a noun")]
    article = ("la" if gender == "f" else "le", (start,), (start, at))
    french = [article, (noun, (at,), (at,))]
    if described:
        adjective = (ADJECTIVES[words[place]][gender == "f"], (place,), (place, at))
        french.insert(1 if words[place] in BEFORE else 2, adjective)
    return french, at + 1, gender


def _expect(words: list[str], place: int, among: Collection[str], kind: str) -> str:
    found = words[place] if place < len(words) else "the end"
    if found not in among:
        raise ValueError(f"expected {kind} at word {place}, got {found!r}")
    return found


def _noun_phrase(source: torch.Generator) -> str:
    adjective = f"{_pick(ADJECTIVES, source)} " if int(between(0, 1, (1,), source)) else ""
    return f"the {adjective}{_pick(NOUNS, source)}"


def _pick(words: Collection[str], source: torch.Generator) -> str:
    return list(words)[int(between(0, len(words) - 1, (1,), source))]
