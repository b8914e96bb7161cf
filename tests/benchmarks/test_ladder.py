"""The ladder's parts: subwords, word maps, links drawn by hand, scores, examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ladder import alignments, corpus, kinds, links, results, score, writing
from lookback import metrics
from lookback.data import phrases
from lookback.data.vocabulary import EOS
from lookback.transformer import count_parameters

RESULTS = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "results"
SENTENCES = [" ".join(p.source) + "." for p in phrases.sample(200, seed=0)]
JOINT = corpus.Subwords([*SENTENCES, "L'homme dit: \"Un T-shirt, c'est bien\"."], 120)


@pytest.mark.parametrize(
    "text", [*SENTENCES[:3], "L'homme dit: \"Un T-shirt, c'est bien\".", "the  mat  ", "."]
)
def test_what_was_cut_into_subwords_comes_back_as_it_was(text):
    (numbers,) = JOINT.encode([text])
    assert JOINT.decode([numbers]) == [text]
    assert JOINT.decode([[*numbers, EOS, 5, 6]]) == [text]


@given(st.text(max_size=30))
def test_no_text_is_read_as_a_special_token(text):
    special = {0, 1, 2}
    (numbers,) = JOINT.encode([text + "<eos><pad> <bos>"])
    assert not special & set(numbers)


def test_the_same_sentences_give_the_same_subwords_and_others_give_others():
    again, other = (corpus.Subwords(some, 60) for some in (SENTENCES, SENTENCES[:50]))
    assert corpus.Subwords(SENTENCES, 60).fingerprint() == again.fingerprint()
    assert other.fingerprint() != again.fingerprint()
    with pytest.raises(ValueError, match="no sentence"):
        corpus.Subwords([], 60)


@given(st.lists(st.sampled_from(["the", "mat", "T-shirt", "L'homme", ",", '"sat"']), min_size=1))
def test_every_subword_has_a_word_and_words_joined_are_the_sentence(parts):
    sentence = " ".join(parts)
    words, groups = JOINT.words(sentence)
    assert "".join(words) == sentence.replace(" ", "")
    assert len(groups) == len(JOINT.encode([sentence])[0])
    assert sorted(set(groups)) == list(range(len(words)))
    assert groups == sorted(groups)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_all_models_have_as_many_parameters_within_ten_per_cent(kind):
    sizes = {name: count_parameters(kinds.build(k, 4000)) for name, k in kinds.KINDS.items()}
    assert sizes[kind] == pytest.approx(sum(sizes.values()) / len(sizes), rel=0.05)


def small(kind: str) -> torch.nn.Module:
    choices = {
        "bahdanau": kinds.recurrent(12, cell="gru", attention="additive"),
        "transformer": kinds.transformer(12, H=2, layers=2, hidden=12),
    }
    made = kinds.Kind("small", choices[kind], transformer=kind == "transformer")
    return kinds.build(made, len(JOINT)).eval()


@pytest.mark.parametrize(("kind", "layers"), [("bahdanau", 1), ("transformer", 2)])
def test_a_row_of_word_weights_sums_to_one_and_a_word_of_several_subwords_adds_up(kind, layers):
    model, source, target = small(kind), "the black cat waited.", 'L\'homme dit: "Un T-shirt".'
    s_words, t_words, weights = alignments.word_weights(model, JOINT, source, target)
    assert weights.shape == (layers, len(t_words), len(s_words))
    torch.testing.assert_close(weights.sum(-1), torch.ones(layers, len(t_words)))
    # by hand, from the weights of subwords
    (s_ids,), (t_ids,) = JOINT.encode([source]), JOINT.encode([target])
    inputs = torch.tensor([s_ids]), torch.tensor([[1, *t_ids]])
    if kind == "transformer":
        fine = torch.stack([across.mean(1)[0] for _, across in model.maps(*inputs)])
    else:
        fine = model(*inputs)[1]
    (_, s_groups), (_, t_groups) = JOINT.words(source), JOINT.words(target)
    for t in range(len(t_words)):
        rows = [n for n, group in enumerate(t_groups) if group == t]
        for s in range(len(s_words)):
            columns = [n for n, group in enumerate(s_groups) if group == s]
            wanted = fine[:, rows][:, :, columns].sum(-1).mean(-1)
            torch.testing.assert_close(weights[:, t, s], wanted)


def test_links_are_read_as_source_and_target():
    found = links.table("0-0 2-1", T=2, S=3)
    assert found.tolist() == [[True, False, False], [False, False, True]]
    with pytest.raises(ValueError, match="the link 3-0 lies outside 3 source and 2 target words"):
        links.table("0-0 3-0", T=2, S=3)


def test_alignments_are_judged_over_all_captions_by_the_best_layer(monkeypatch):
    pairs = [("the cat sat.", "le chat assis."), ("the mat.", "le tapis.")]
    monkeypatch.setattr(links, "CAPTIONS", {0: ("0-0 1-1 2-2 3-3", "1-0"), 1: ("0-0 1-1", "1-0")})
    monkeypatch.setattr(links, "SENTENCES", {("the mat.", "le tapis."): ("0-0 1-1", "")})
    joint = corpus.subwords(pairs, 60)

    def planted(model, subwords, source, target):
        s, t = subwords.words(source)[0], subwords.words(target)[0]
        first = torch.eye(len(t), len(s))
        return s, t, torch.stack([first.roll(1, 0), first])  # the second layer is right

    monkeypatch.setattr(alignments, "word_weights", planted)
    monkeypatch.setattr(alignments, "translate", lambda model, subwords, sources: ["", "un", ""])
    found = alignments.judge(None, joint, corpus.Corpus(pairs, pairs, pairs))
    assert found["layer"] == 1
    # the full stop of "le tapis." has no gold link, so its row is not judged
    assert found["alignment error"][1] == 0
    assert found["alignment error"][0] > 0.5
    assert found["links"] == 6
    assert [len(entry["given"]["target"]) for entry in found["maps"]] == [4, 3, 3]
    assert ["own" in entry for entry in found["maps"]] == [False, True, False]
    entry = {"source": ["a", "b"], "target": ["x"], "weights": [[0.2, 0.8]]}
    assert alignments.cell(entry, "x", "b") == {"weight": 0.8, "largest": True}
    assert alignments.cell(entry, "x", "a") == {"weight": 0.2, "largest": False}


def test_tokens_are_lower_cased_words_and_marks():
    text = "The man's T-shirt isn't blue, it can't be."
    wanted = "the man 's t - shirt is n't blue , it ca n't be ."
    assert score.tokens(text) == wanted.split()


def test_scores_by_length_hold_each_sentence_once():
    sources = ["one two", "a " * 9, "a " * 10, "a " * 30]
    found = score.by_length(sources, ["x y z w"] * 4, ["x y z w", "a b c d", "x y z w", "x y z w"])
    assert found["words"] == ["to 8", "9 to 10", "from 16"]
    assert found["sentences"] == [1, 2, 1]
    assert found["mean words"] == [2, 9.5, 30]
    assert found["token bleu"][0] == found["token bleu"][2] == pytest.approx(100)
    assert found["token bleu"][1] < 60


def test_a_gap_that_every_sample_shows_is_no_chance_and_one_that_turns_round_is():
    wanted = [f"a b c d e f number {n}" for n in range(40)]
    half, other = (
        [text if n % 2 == odd else "a b c z e f" for n, text in enumerate(wanted)] for odd in (0, 1)
    )
    written = {"other": other, "base": half, "right": wanted}
    found = score.resampled(written, wanted, baseline="base")
    assert found["right"]["p"] < 0.01
    assert found["other"]["p"] > 0.2
    assert found["base"]["p"] == 1
    assert found["right"]["either way"] < 0.1 < found["base"]["either way"]


def test_case_counts_in_one_score_and_not_in_the_others():
    written, wanted = ["A Man is walking a dog ."], ["a man is walking a dog."]
    found = score.scores(written, wanted)
    assert found["bleu"].value < 100
    assert found["lower-cased bleu"].value == pytest.approx(100)
    assert found["token bleu"].value == pytest.approx(100)


def test_a_beam_writes_in_the_order_of_its_sources_and_one_of_width_one_is_greedy():
    model, sources = small("bahdanau"), SENTENCES[:7]
    alone = [writing.translate(model, JOINT, [text])[0] for text in sources]
    assert writing.translate(model, JOINT, sources, batch=3) == alone
    assert writing.translate(model, JOINT, sources, width=2, batch=3) == [
        writing.translate(model, JOINT, [text], width=2)[0] for text in sources
    ]


def test_examples_lie_at_their_ranks_from_good_to_bad():
    wanted = [f"a b c d e f number {n}" for n in range(40)]
    told = ["zz" if n % 2 else text for n, text in enumerate(wanted)]
    data = corpus.Corpus([], [], [(f"source {n}", text) for n, text in enumerate(wanted)])
    found = results.examples(data, JOINT, {"none": wanted, "transformer": told})
    values = [example["chrf"] for example in found]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(100)
    assert values[-1] < 10
    assert all(example["written"]["none"] == example["reference"] for example in found)
    short = corpus.Corpus([], [], [("a", "b")])
    assert results.examples(short, JOINT, {"none": ["b"]}) == []


def test_facts_of_a_corpus_count_words_that_training_never_saw():
    train = [("ein Hund läuft.", "a dog runs."), ("ein Hund.", "a dog.")]
    joint = corpus.subwords(train, 60)
    found = results.corpus_facts(corpus.Corpus(train, train, [("ein Hut.", "a hat.")]), joint)
    assert found["pairs"] == {"train": 2, "validation": 2, "test": 1}
    assert found["words to read"] == {"de": 4, "en": 4}  # the full stop is one
    assert found["unseen test words"] == {"de": 1 / 3, "en": 1 / 3}
    assert found["words a test sentence"]["de"] == 3
    assert found["subwords a test sentence"]["de"] > 3


@pytest.mark.parametrize("path", sorted(RESULTS.glob("multi30k*.json")), ids=lambda path: path.name)
def test_committed_results_are_small_and_hold_no_more_of_the_corpus_than_examples(path):
    assert path.stat().st_size < 300_000
    content = json.loads(path.read_text("utf-8"))
    assert content
    if path.name == "multi30k.json":
        for row in content:
            assert len(row["seeds"]) == len(row["greedy token bleu"]) == len(row["curve"])
            assert all(0 < error < 1 for error in row.get("alignment error", []))
    elif path.name == "multi30k_examples.json":
        assert len(content["examples"]) <= 20
    else:
        assert len(content) <= 12 * len({entry["name"] for entry in content})


def test_the_error_rate_of_the_cat_sentence_is_zero_for_its_own_links():
    for (source, target), (sure, possible) in links.SENTENCES.items():
        S, T = len(JOINT.words(source)[0]), len(JOINT.words(target)[0])
        first = links.table(sure, T, S)
        both = first | links.table(possible, T, S)
        assert metrics.alignment_error_rate(first, first, both) == 0
