"""The models of the ladder: as many parameters each, and what is common to all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn

from lookback.data.loaders import Batch
from lookback.seq2seq import Seq2Seq
from lookback.transformer import Config, EncoderDecoder


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the same for every step of the ladder.

    Attributes:
        subwords: size of the joint vocabulary.
        epochs: passes over the training pairs at most.
        batch: pairs an update.
        rate: highest learning rate.
        warmup: updates in which it rises; afterwards it falls along a cosine.
        betas: Adam's.
        clip: largest norm of a gradient.
        smoothing: of labels.
        patience: epochs without a better validation score after which training stops.
        precision: of the forward pass.
    """

    subwords: int = 4000
    epochs: int = 10
    batch: int = 128
    rate: float = 1.5e-3
    warmup: int = 400
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    smoothing: float = 0.1
    patience: int = 3
    precision: str = "bfloat16"


@dataclass(frozen=True)
class Kind:
    """One step of the ladder.

    Attributes:
        name: in words.
        model: arguments of :class:`Seq2Seq`, or of :class:`Config`.
        transformer: which of the two.
        recipe: what differs from :class:`Recipe`; nothing for the steps of the ladder.
    """

    name: str
    model: dict[str, Any]
    transformer: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)


def recurrent(width: int, **choices: Any) -> dict[str, Any]:
    return {"embedding": width, "hidden": width, "dropout": 0.3, "tied": True, **choices}


def transformer(width: int, **choices: Any) -> dict[str, Any]:
    return {"D": width, "tied": True, "max_length": 256, **choices}


# widths are chosen so that all four have as many parameters, within a few per cent
KINDS = {
    "none": Kind("GRU without attention", recurrent(328, cell="gru")),
    "bahdanau": Kind("GRU, Bahdanau", recurrent(320, cell="gru", attention="additive")),
    "luong": Kind(
        "LSTM, Luong",
        recurrent(296, cell="lstm", attention="general", input_feeding=True),
    ),
    "transformer": Kind(
        "Transformer",
        transformer(192, H=4, layers=3, hidden=384, dropout=0.1),
        transformer=True,
    ),
    # beside the ladder: what the last model gives when it may learn for longer
    "longer": Kind(
        "Transformer, 20 passes",
        transformer(192, H=4, layers=3, hidden=384, dropout=0.15),
        transformer=True,
        recipe={"epochs": 20},
    ),
}


def build(kind: Kind, vocabulary: int) -> nn.Module:
    """A new model over a joint vocabulary."""
    if kind.transformer:
        return EncoderDecoder(Config(vocabulary=vocabulary, **kind.model))
    return Seq2Seq(vocabulary, vocabulary, **kind.model)


def logits(model: nn.Module, batch: Batch) -> Tensor:
    """Scores of each next target token, ``(B, T, V)``."""
    found = model(batch.source, batch.decoder_input, batch.source_lengths)
    return found if isinstance(found, Tensor) else found[0]


def facts(kind: Kind, recipe: Recipe) -> dict[str, Any]:
    """What two runs must share to be one, as plain data."""
    return {"model": kind.model, "recipe": asdict(recipe)}
