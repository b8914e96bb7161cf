"""Three families on four tasks, at equal size: which one does a task need?

Writes ``benchmarks/results/families.json``, one row a task, family and seed. Every model has the
same number of parameters in its blocks, the same updates and the same rate. About six minutes on
one CPU thread.

    OMP_NUM_THREADS=1 python benchmarks/families.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from rich.console import Console
from torch import Tensor, nn

from lookback.data import phrases, source_code
from lookback.data.loaders import collate, pad
from lookback.data.vocabulary import BOS, EOS, IGNORE, PAD, Vocabulary
from lookback.training import one_cycle, token_loss, train
from lookback.transformer import (
    Config,
    DecoderOnly,
    Embedding,
    EncoderDecoder,
    EncoderOnly,
    Stack,
)
from provenance import provenance, write

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/families.py"
SEEDS = (0, 1, 2)
B, STEPS, RATE, TESTED = 32, 400, 3e-3, 500
# 4 blocks of one stack, or 2 and 2 narrower ones with cross-attention: 196,608 weights either way
ONE, TWO = {"layers": 4, "hidden": 256}, {"layers": 2, "hidden": 192}
NOT = "not applicable"


@dataclass(frozen=True)
class Task:
    """Pairs to learn from, and how a model is told right from wrong.

    Args:
        draw: ``draw(n, part, generator)``: sources and targets as lists of tokens.
        vocabulary: number of tokens, of both sides together.
        whole: whether a target counts only as a whole; token by token otherwise.
        aligned: whether target ``t`` belongs to source ``t``.
        answers: tokens that may be written, the last of the vocabulary; all when left out.
    """

    draw: Callable
    vocabulary: int
    whole: bool = False
    aligned: bool = False
    answers: tuple[int, ...] | None = None


def only_one(n: int, part: str, source: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Tagging: is this symbol the only one of its kind in the row? Tags are two tokens more."""
    rows = torch.randint(12, (n, 12), generator=source)
    alone = (rows[:, :, None] == rows[:, None]).sum(-1) == 1
    return [((4 + r).tolist(), (16 + a.long()).tolist()) for r, a in zip(rows, alone, strict=True)]


@cache
def code(part: str) -> tuple[Tensor, int]:
    """Characters of Python's library as numbers, and how many there are."""
    text = source_code.load("source", part="train", size=400_000)
    table = Vocabulary.build([text])
    if part != "train":
        text = source_code.load("source", part=part, size=100_000)
    return torch.tensor(table.encode(text)), len(table)


def halves(n: int, part: str, source: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Language model: 32 characters of Python, then the 32 after them."""
    ids, _ = code(part)
    starts = torch.randint(len(ids) - 64, (n,), generator=source).tolist()
    return [(ids[s : s + 32].tolist(), ids[s + 32 : s + 64].tolist()) for s in starts]


@cache
def sentences(part: str) -> tuple[list[tuple[list[int], list[int]]], int]:
    held = phrases.sample(TESTED, seed=99)
    kept_out = {" ".join(phrase.source) for phrase in held}
    corpus = phrases.sample(4000, seed=0, without=kept_out)
    table = Vocabulary.build([side for p in corpus for side in (p.source, p.target)])
    chosen = corpus if part == "train" else held
    return [(table.encode(p.source), table.encode(p.target)) for p in chosen], len(table)


def translations(n: int, part: str, source: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Translation: small English sentences and their French."""
    pairs, _ = sentences(part)
    return [pairs[i] for i in torch.randint(len(pairs), (n,), generator=source).tolist()]


SNIPPETS = ("code", "comments", "docstrings")


@cache
def snippets(part: str) -> tuple[list[Tensor], int]:
    texts = [source_code.load(kind, part=part, size=200_000) for kind in SNIPPETS]
    table = Vocabulary.build([source_code.load(kind, size=200_000) for kind in SNIPPETS])
    return [torch.tensor(table.encode(text)) for text in texts], len(table)


def kinds(n: int, part: str, source: torch.Generator) -> list[tuple[list[int], list[int]]]:
    """Classification: 40 characters of Python; code, comment or docstring? One word to write."""
    texts, size = snippets(part)
    pairs = []
    for kind in torch.randint(len(SNIPPETS), (n,), generator=source).tolist():
        ids = texts[kind]
        start = int(torch.randint(len(ids) - 40, (1,), generator=source))
        pairs.append((ids[start : start + 40].tolist(), [size + kind]))
    return pairs


def tasks() -> dict[str, Task]:
    labels = snippets("train")[1]
    words = tuple(range(labels, labels + len(SNIPPETS)))
    return {
        "tagging": Task(only_one, 18, aligned=True, answers=(16, 17)),
        "language model": Task(halves, code("train")[1]),
        "translation": Task(translations, sentences("train")[1], whole=True),
        "classification": Task(kinds, labels + len(SNIPPETS), whole=True, answers=words),
    }


class Encoder(nn.Module):
    """Encoder-only: one answer a position where source and target go side by side; elsewhere the
    target is filled into blanks behind the source, all at once."""

    def __init__(self, task: Task, pool: str = "none") -> None:
        super().__init__()
        self.task, self.pool = task, pool
        self.model = EncoderOnly(Config(vocabulary=task.vocabulary, **ONE), pool=pool)

    def forward(self, pairs) -> tuple[Tensor, Tensor]:
        if self.pool != "none":
            x, lengths = pad([s for s, _ in pairs])
            return self.model(x, lengths)[:, None], torch.tensor([t for _, t in pairs])
        if self.task.aligned:
            (x, lengths), (y, _) = pad([s for s, _ in pairs]), pad([t for _, t in pairs])
            return self.model(x, lengths), y
        room = 1 + max(len(t) for _, t in pairs)
        x, lengths = pad([[*s, EOS, *[BOS] * room] for s, _ in pairs])
        y = torch.full_like(x, IGNORE)
        for i, (s, t) in enumerate(pairs):
            y[i, len(s) + 1 : len(s) + 2 + len(t)] = torch.tensor([*t, EOS])
        return self.model(x, lengths), y


class Decoder(nn.Module):
    """Decoder-only: reads the source as a prompt and goes on with the target; ``at_once`` answers
    each token as it reads it."""

    def __init__(self, task: Task, at_once: bool = False) -> None:
        super().__init__()
        self.at_once = at_once
        self.model = DecoderOnly(Config(vocabulary=task.vocabulary, **ONE))

    def forward(self, pairs) -> tuple[Tensor, Tensor]:
        if self.at_once:
            x, y = pad([s for s, _ in pairs])[0], pad([t for _, t in pairs])[0]
            return self.model(x), y
        x, _ = pad([[*s, BOS, *t] for s, t in pairs])
        y = torch.full_like(x, IGNORE)
        for i, (s, t) in enumerate(pairs):
            y[i, len(s) : len(s) + 1 + len(t)] = torch.tensor([*t, EOS])
        return self.model(x), y


class Headed(nn.Module):
    """A decoder's stack with a classifier on the last token in place of words."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        config = Config(vocabulary=task.vocabulary, **ONE)
        self.embedding, self.stack = Embedding(config, task.vocabulary), Stack(config, causal=True)
        self.head = nn.Linear(config.D, task.vocabulary, bias=False)

    def forward(self, pairs) -> tuple[Tensor, Tensor]:
        x = torch.tensor([[*s, BOS] for s, _ in pairs])
        last = self.stack(self.embedding(x))[:, -1:]
        return self.head(last), torch.tensor([t for _, t in pairs])


class Both(nn.Module):
    """Encoder–decoder: one stack reads the source, the other writes the target."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = EncoderDecoder(Config(vocabulary=task.vocabulary, **TWO))

    def forward(self, pairs) -> tuple[Tensor, Tensor]:
        batch = collate(pairs)
        return self.model(batch.source, batch.decoder_input, batch.source_lengths), batch.target


def families(name: str) -> dict[str, Callable[[Task], nn.Module] | None]:
    found = {"encoder-only": Encoder, "decoder-only": Decoder, "encoder–decoder": Both}
    if name == "language model":
        found["encoder-only"] = None  # it sees the token that it is asked for
    if name == "tagging":
        found["decoder-only, as it reads"] = lambda task: Decoder(task, at_once=True)
    if name == "classification":
        found["encoder-only"] = lambda task: Encoder(task, pool="mean")
        found["decoder-only, classifier head"] = Headed
    return found


def fit(task: Task, build: Callable[[Task], nn.Module], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model, source = build(task), torch.Generator().manual_seed(seed)
    train(
        model,
        lambda model, batch: token_loss(*model(batch["pairs"])),
        [{"pairs": task.draw(B, "train", source)} for _ in range(STEPS)],
        torch.optim.AdamW(model.parameters(), RATE),
        steps=STEPS,
        clip=1.0,
        schedule=one_cycle(STEPS),
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def judge(task: Task, model: nn.Module) -> dict[str, float]:
    """Loss in nats a token, and the share of right tokens or whole targets, given right prefixes.

    The end token is left out of both.
    """
    pairs = task.draw(TESTED, "validation", torch.Generator().manual_seed(99))
    logits, y = model(pairs)
    y = torch.where((y == EOS) | (y == PAD), IGNORE, y)
    if task.answers is not None:
        closed = torch.ones(logits.shape[-1], dtype=torch.bool)
        closed[list(task.answers)] = False
        logits = logits.masked_fill(closed, float("-inf"))
    summed, count = token_loss(logits, y)
    right = (logits.argmax(-1) == y) | (y == IGNORE)
    whole, each = right.all(1).double().mean(), (right & (y != IGNORE)).sum() / count
    return {"loss": float(summed / count), "accuracy": float(whole if task.whole else each)}


def main() -> None:
    torch.set_num_threads(1)
    console, rows, origin = Console(), [], provenance(COMMAND)
    for name, task in tasks().items():
        for family, build in families(name).items():
            for seed in SEEDS if build else ():
                model = fit(task, build, seed)
                blocks = [p for n, p in model.named_parameters() if "layers" in n and p.ndim == 2]
                found = judge(task, model) | {"block weights": sum(p.numel() for p in blocks)}
                rows.append({"name": f"{name}, {family}", "task": name, "family": family})
                rows[-1] |= {"seed": seed} | found | {"updates": STEPS} | origin
                console.print(name, family, seed, found, style="dim", soft_wrap=True)
            if build is None:
                rows.append({"name": f"{name}, {family}", "task": name, "family": family})
                rows[-1] |= {"accuracy": NOT} | origin
    console.print(f"written to {write('families', rows)}")


if __name__ == "__main__":
    main()
