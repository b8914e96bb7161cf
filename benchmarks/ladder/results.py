"""From what lies in the folders of finished runs to the committed results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ladder.alignments import cell
from ladder.corpus import Corpus, Subwords
from ladder.fit import Run
from ladder.kinds import KINDS
from lookback import metrics

EXAMPLES = (0.99, 0.9, 0.75, 0.5, 0.25, 0.1, 0.01)
"""Quantiles of the sentences, ranked by the Transformer's chrF, that are shown."""
LEAST = 7
"""Words of the shortest reference that is shown."""


def row(runs: list[tuple[Run, dict[str, Any]]]) -> dict[str, Any]:
    """One model on one pair of languages, with one entry a seed in every list.

    Args:
        runs: the runs of one pair and kind, with what ``scores.json`` of each holds.
    """
    first, records = runs[0][0], [record for _, record in runs]
    scores = [record["scores"] for record in records]
    made = {
        "name": f"{first.pair} {first.kind}",
        "label": KINDS[first.kind].name,
        "pair": first.pair,
        "parameters": records[0]["parameters"],
        "settings": records[0]["settings"],
        "seeds": [run.seed for run, _ in runs],
        "signatures": scores[0]["signatures"],
    }
    for way in ("greedy", "beam"):
        for what in ("bleu", "lower-cased bleu", "token bleu", "chrf", "details"):
            made[f"{way} {what}"] = [score[way][what] for score in scores]
    lengths = [score["by length"] for score in scores]
    made |= {name: lengths[0][name] for name in ("words", "sentences", "mean words")}
    made["token bleu by length"] = [found["token bleu"] for found in lengths]
    made["token bleu, short"] = [found["token bleu"][0] for found in lengths]
    made["token bleu, long"] = [found["token bleu"][-1] for found in lengths]
    if "alignments" in scores[0]:
        made |= aligned([score["alignments"] for score in scores])
    for name in ("curve", "loss", "best epoch", "stopped early", "cpu seconds", "seconds"):
        made[name] = [record[name] for record in records]
    # where and when: of the last run
    return (
        made
        | {name: records[-1][name] for name in ("device", "versions", "command")}
        | {name: [record[name] for record in records] for name in ("commit", "date")}
    )


def aligned(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The alignment figures that claims read, one entry a seed."""
    cats = [entry["maps"][-1]["given"] for entry in found]
    return {
        "alignment error": [min(entry["alignment error"]) for entry in found],
        "alignment error by layer": [entry["alignment error"] for entry in found],
        "links": found[0]["links"],
        "weight of chat on cat": [cell(cat, "chat", "cat")["weight"] for cat in cats],
        "weight of assis on sat": [cell(cat, "assis", "sat")["weight"] for cat in cats],
        "chat looks most at cat": [cell(cat, "chat", "cat")["largest"] for cat in cats],
        "assis looks most at sat": [cell(cat, "assis", "sat")["largest"] for cat in cats],
    }


def maps(runs: list[tuple[Run, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The maps of the first seed, one row a sentence."""
    run, record = runs[0]
    return [
        {"name": f"{run.pair} {run.kind}", "seed": run.seed, **entry}
        for entry in record["scores"].get("alignments", {"maps": []})["maps"]
    ]


def examples(
    corpus: Corpus, subwords: Subwords, written: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Good and bad translations: sentences at fixed ranks, and what each model made of them.

    Args:
        corpus: whose test set was translated.
        subwords: what the models read.
        written: kind → its translations; ranked by those of the last kind.
    """
    judged = list(written.values())[-1]
    long = [n for n, (_, wanted) in enumerate(corpus.test) if len(wanted.split()) >= LEAST]
    if not long:
        return []
    value = {n: metrics.chrf([judged[n]], [corpus.test[n][1]]).value for n in long}
    ranked = sorted(long, key=lambda n: (value[n], n))
    chosen = [ranked[min(int(share * len(ranked)), len(ranked) - 1)] for share in EXAMPLES]
    return [
        {
            "line": n,
            "source": corpus.test[n][0],
            "pieces": subwords.pieces(subwords.encode([corpus.test[n][0]])[0]),
            "reference": corpus.test[n][1],
            "chrf": value[n],
            "rank": share,
            "written": {kind: texts[n] for kind, texts in written.items()},
        }
        for n, share in zip(chosen, EXAMPLES, strict=True)
    ]


def corpus_facts(corpus: Corpus, subwords: Subwords, pair: str = "de-en") -> dict[str, Any]:
    """Sizes of the corpus, and how many test words no training sentence has."""
    found: dict[str, Any] = {
        "pairs": {name: len(part) for name, part in vars(corpus).items()},
        "subwords": len(subwords),
    }
    counts = ("words to read", "unseen test words", "words a test sentence")
    found |= {name: {} for name in (*counts, "subwords a test sentence")}
    for side, language in enumerate(pair.split("-")):
        known = {word for texts in corpus.train for word in subwords.words(texts[side])[0]}
        test = [subwords.words(texts[side])[0] for texts in corpus.test]
        words = [word for sentence in test for word in sentence]
        pieces = subwords.encode([texts[side] for texts in corpus.test])
        values = (
            len(known),
            sum(word not in known for word in words) / len(words),
            len(words) / len(test),
            sum(map(len, pieces)) / len(test),
        )
        for name, value in zip((*counts, "subwords a test sentence"), values, strict=True):
            found[name][language] = value
    return found


def write(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)


def together(
    found: Iterable[tuple[Run, dict[str, Any]]],
) -> dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]]:
    """Runs by pair and kind, seeds in order."""
    groups: dict[tuple[str, str], list[tuple[Run, dict[str, Any]]]] = {}
    for run, record in sorted(found, key=lambda item: item[0].seed):
        groups.setdefault((run.pair, run.kind), []).append((run, record))
    return groups
