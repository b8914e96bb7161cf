"""The bilingual phrases: the French is right, every link is known, and a seed fixes the sample."""

from __future__ import annotations

import pytest
import torch

from lookback.data import phrases


@pytest.mark.parametrize(
    ("english", "french", "sure"),
    [
        ("the blue car", "la voiture bleue", [0, 2, 1]),
        ("the small cow", "la petite vache", [0, 1, 2]),
        ("the cat sat on the mat", "le chat était assis sur le tapis", [0, 1, None, 2, 3, 4, 5]),
        (
            "the black cow sat behind the big house",
            "la vache noire était assise derrière la grande maison",
            [0, 2, 1, None, 3, 4, 5, 6, 7],
        ),
    ],
)
def test_french_follows_its_own_order_and_gender(english, french, sure):
    phrase = phrases.write(english)
    assert " ".join(phrase.target) == french
    assert [row[0] if row else None for row in phrase.sure] == sure


def test_the_form_of_a_word_is_linked_to_the_noun_that_decides_it():
    phrase = phrases.write("the white door sat on the mat")
    by_word = dict(zip(phrase.target, phrase.possible, strict=True))
    assert by_word["la"] == (0, 2)
    assert by_word["blanche"] == (1, 2)
    assert by_word["était"] == (3,)
    assert by_word["assise"] == (2, 3)
    assert by_word["porte"] == (2,)


def test_every_sample_can_be_written_again_and_no_held_out_sentence_is_drawn():
    sample = phrases.sample(300, seed=3)
    held_out = {" ".join(phrase.source) for phrase in sample[:50]}
    again = phrases.sample(300, seed=3, without=held_out)
    assert not held_out & {" ".join(phrase.source) for phrase in again}
    for phrase in sample:
        assert phrases.write(" ".join(phrase.source)) == phrase
    short = sum(len(phrase.source) <= 3 for phrase in sample) / 300
    assert 0.15 < short < 0.35


def test_a_seed_gives_the_same_sample_again_and_a_generator_moves_on():
    assert phrases.sample(20, seed=7) == phrases.sample(20, seed=7) != phrases.sample(20, seed=8)
    generator = torch.Generator().manual_seed(7)
    assert phrases.sample(20, seed=generator) == phrases.sample(20, seed=7)
    assert phrases.sample(20, seed=generator) != phrases.sample(20, seed=7)


def test_links_are_padded_sure_ones_are_possible_and_the_end_has_none():
    batch = [phrases.write("the cat"), phrases.write("the dog slept under the big chair")]
    sure, possible = phrases.links(batch)
    assert sure.shape == possible.shape == (2, 8, 7)
    assert not (sure & ~possible).any()
    assert not possible[0, 2:].any()
    assert not possible[0, :, 2:].any()
    assert not possible[1, 7].any()
    assert sure[0, :2, :2].equal(torch.eye(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a cat", "'the' at word 0, got 'a'"),
        ("the blue", "a noun at word 2, got 'the end'"),
        ("the cat ate the dog", "a verb at word 2, got 'ate'"),
        ("the cat sat the mat", "a preposition at word 3"),
        ("the cat sat on the mat the", "should end before 'the'"),
    ],
)
def test_a_sentence_outside_the_grammar_is_refused_by_its_word(text, words):
    with pytest.raises(ValueError, match=words):
        phrases.write(text)


def test_sizes_that_make_no_sense_are_refused(no_shape_checks):
    with pytest.raises(ValueError, match="at least 1"):
        phrases.sample(0)
    with pytest.raises(ValueError, match="there is no example to link"):
        phrases.links([])
