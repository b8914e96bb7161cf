"""What a trained model looks at, word by word, and how far that is from links drawn by hand."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ladder import links
from ladder.corpus import Corpus, Subwords
from ladder.writing import translate
from lookback import metrics
from lookback.data.loaders import collate
from lookback.transformer import EncoderDecoder


@torch.no_grad()
def word_weights(
    model: nn.Module, subwords: Subwords, source: str, target: str
) -> tuple[list[str], list[str], Float[Tensor, "L T S"]]:
    """Weights of a model that is given the target, from words to words.

    A source word's weight is the sum over its subwords, a target word's row the mean over its own:
    rows sum to 1 as before.

    Returns:
        Source words, target words and weights: one layer for a recurrent model, one for each
        block of a Transformer, the mean of its heads.
    """
    (s_words, s_groups), (t_words, t_groups) = subwords.words(source), subwords.words(target)
    batch = collate(subwords.pairs([(source, target)]))
    inputs = batch.source, batch.decoder_input, batch.source_lengths
    if isinstance(model, EncoderDecoder):
        layers = [across.mean(1)[0] for _, across in model.maps(*inputs)]  # heads' mean
    else:
        layers = [model(*inputs)[1][0]]
    found = torch.stack(layers)[:, : len(t_groups)]  # L T' S', without the end token's row
    found = (found @ membership(s_groups)).mT  # L S T'
    rows = membership(t_groups)
    return s_words, t_words, (found @ (rows / rows.sum(0))).mT  # L T S


def membership(groups: list[int]) -> Float[Tensor, "N words"]:
    """1 where a subword belongs to a word."""
    return torch.nn.functional.one_hot(torch.tensor(groups)).float()


def judge(model: nn.Module, subwords: Subwords, corpus: Corpus) -> dict[str, Any]:
    """Maps of every sentence with links, and the error rate over the ten captions.

    Returns:
        ``alignment error``, one a layer; ``links``, how many were drawn; and ``maps``, one a
        sentence: words, weights of the layer with the least error, and what the model itself
        would have written, with its own map.
    """
    captions = [(*corpus.test[n], *drawn) for n, drawn in links.CAPTIONS.items()]
    found, sure, possible = [], [], []
    for source, target, *drawn in captions:
        s, t, weights = word_weights(model, subwords, source, target)
        first, second = (links.table(text, len(t), len(s)) for text in drawn)
        rows = (first | second).any(-1)
        found.append(metrics.strongest_links(weights, rows.expand(len(weights), -1)).flatten(1))
        sure.append(first.flatten())
        possible.append((first | second).flatten())
    sure, possible = (torch.cat(x)[None] for x in (sure, possible))
    errors = [
        metrics.alignment_error_rate(layer[None], sure, possible) for layer in torch.cat(found, 1)
    ]
    best = errors.index(min(errors))
    sentences = [*((s, t) for s, t, *_ in captions), *links.SENTENCES]
    own = translate(model, subwords, [source for source, _ in sentences])
    maps = []
    for (source, target), written in zip(sentences, own, strict=True):
        entry = {"given": a_map(model, subwords, source, target, best), "writes": written}
        if written.strip():
            entry["own"] = a_map(model, subwords, source, written, best)
        maps.append(entry)
    return {"alignment error": errors, "layer": best, "links": int(sure.sum()), "maps": maps}


def a_map(
    model: nn.Module, subwords: Subwords, source: str, target: str, layer: int
) -> dict[str, Any]:
    """Words and weights, as a page reads them."""
    s_words, t_words, weights = word_weights(model, subwords, source, target)
    rows = [[round(x, 3) for x in row] for row in weights[layer].tolist()]
    return {"source": s_words, "target": t_words, "weights": rows}


def cell(entry: dict[str, Any], target: str, source: str) -> dict[str, Any]:
    """The weight of one target word on one source word, and whether it is its largest."""
    row = entry["weights"][entry["target"].index(target)]
    column = entry["source"].index(source)
    return {"weight": row[column], "largest": max(row) == row[column]}
