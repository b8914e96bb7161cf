"""Vocabulary: numbers and back, in an order that counts and code points decide."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD, UNK, Vocabulary, words


def test_frequent_tokens_come_first_and_equal_counts_by_code_point():
    vocabulary = Vocabulary.build([["b", "a", "c"], ["c", "é", "Z"]])
    assert vocabulary.tokens == ("<pad>", "<bos>", "<eos>", "<unk>", "c", "Z", "a", "b", "é")
    assert vocabulary == Vocabulary.build([["é", "c", "b"], ["Z", "a", "c"]])
    assert vocabulary != Vocabulary.build([["c"]])
    assert repr(vocabulary) == "Vocabulary of 9 tokens, 4 of them special"


def test_rare_tokens_are_left_out_and_the_size_is_kept():
    corpus = ["aaabbc"]
    assert Vocabulary.build(corpus, min_count=2).tokens[4:] == ("a", "b")
    small = Vocabulary.build(corpus, max_size=5)
    assert len(small) == 5
    assert "a" in small
    assert "b" not in small
    assert small.encode("ab", bos=True, eos=True) == [BOS, 4, UNK, EOS]


@given(st.lists(st.text(), max_size=5), st.booleans(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_decoding_undoes_encoding_for_every_token_of_the_corpus(corpus, bos, eos):
    vocabulary = Vocabulary.build(corpus)
    for text in corpus:
        ids = vocabulary.encode(text, bos=bos, eos=eos)
        assert vocabulary.decode(ids) == list(text)


def test_decoding_stops_at_the_end_and_skips_padding_start_and_ignored_targets():
    vocabulary = Vocabulary(["x", "y"])
    ids = torch.tensor([BOS, 4, PAD, UNK, IGNORE, 5, EOS, 4])
    assert vocabulary.decode(ids) == ["x", "<unk>", "y"]


def test_text_cannot_forge_a_special_token():
    vocabulary = Vocabulary.build([["<eos>", "a"]])
    assert vocabulary.tokens[4:] == ("a",)
    assert vocabulary.encode(["a", "<eos>", "<pad>"]) == [4, UNK, UNK]


def test_words_and_marks_are_tokens_and_accents_are_composed():
    assert " ".join(words("A dog's tail, 3 times.")) == "a dog ' s tail , 3 times ."
    assert words("Männer, L'été!", lowercase=False) == ["Männer", ",", "L", "'", "été", "!"]
    assert words("Ma\u0308nner") == ["männer"]
    assert words("") == []


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: Vocabulary(["a", "b", "a"]), "1 tokens occur more than once, the first 'a'"),
        (lambda: Vocabulary(["<eos>"]), "'<eos>' is the name of a special token"),
        (lambda: Vocabulary.build(["a"], min_count=0), "min_count must be at least 1, got 0"),
        (lambda: Vocabulary.build(["a"], max_size=4), "must exceed the 4 specials, got 4"),
        (lambda: Vocabulary(["a"]).decode([5]), "5 is no token: this vocabulary has 5"),
        (lambda: Vocabulary(["a"]).decode([-1]), "-1 is no token"),
    ],
)
def test_a_vocabulary_names_what_does_not_fit(run, message):
    with pytest.raises(ValueError, match=message):
        run()
