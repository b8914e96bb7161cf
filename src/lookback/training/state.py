"""Everything that a run needs to go on as if it had never stopped."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lookback.training.checkpoints import (
    architecture,
    differing,
    part,
    plain,
    read_checkpoint,
    shapes,
    write_checkpoint,
)


@dataclass(frozen=True)
class Identity:
    """What two runs must share for one to go on from the other's checkpoint."""

    facts: dict[str, Any]

    @staticmethod
    def of(
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        config: Mapping[str, Any] | None,
        settings: Mapping[str, Any],
        *,
        processes: int,
    ) -> Identity:
        """Collected from the run at hand.

        Raises:
            ValueError: if ``config`` holds anything but plain data.
        """
        try:
            given = json.loads(json.dumps(dict(config or {})))
        except TypeError as error:
            raise ValueError(f"config must be plain data: {error}") from error
        return Identity(
            {
                "config": given,
                "model": shapes(model.state_dict()),
                "architecture": architecture(model),
                "optimiser": {"kind": type(optimiser).__name__, **plain(optimiser.defaults)},
                **settings,
                "processes": processes,
            }
        )


class Stream:
    """Batches without end, epoch after epoch, and the place in them.

    Attributes:
        epoch: passes begun before the one at hand.
        position: batches taken in it.
    """

    def __init__(self, batches: Iterable) -> None:
        self.batches, self.epoch, self.position = batches, -1, 0
        self._source = None
        self._start: dict[str, Any] | None = None  # the generators when the epoch began

    def next(self) -> Any:
        """The next batch.

        Raises:
            ValueError: if a pass gives none.
        """
        batch = None if self._source is None else next(self._source, None)
        if batch is None:
            self._begin(self.epoch + 1)
            batch = next(self._source, None)
            if batch is None:
                raise ValueError(f"epoch {self.epoch} of the data holds no batch")
        self.position += 1
        return batch

    def _begin(self, epoch: int) -> None:
        self.epoch, self.position, self._start = epoch, 0, generators(self.own_generators())
        for source in self._parts().values():
            if hasattr(source, "set_epoch"):
                source.set_epoch(epoch)
        self._source = iter(self.batches)

    def _parts(self) -> dict[str, Any]:
        """What decides the order: the object that gives batches, and its samplers."""
        batch_sampler = getattr(self.batches, "batch_sampler", None)
        return {
            "batches": self.batches,
            "batch_sampler": batch_sampler,
            "sampler": getattr(self.batches, "sampler", None),
            "batch_sampler.sampler": getattr(batch_sampler, "sampler", None),
        }

    def own_generators(self) -> dict[str, torch.Generator]:
        """Generators that the parts of a loader keep as ``generator``."""
        found = {name: getattr(x, "generator", None) for name, x in self._parts().items()}
        return {name: g for name, g in found.items() if isinstance(g, torch.Generator)}

    def place(self) -> dict[str, Any]:
        """Where it stands, for a checkpoint."""
        return {"epoch": self.epoch, "position": self.position, "start": self._start}

    def go_to(self, place: Mapping[str, Any]) -> None:
        """Stand there again: begin the epoch as it began then, and take as many batches.

        Raises:
            ValueError: if the epoch is shorter than it was.
        """
        if place["epoch"] < 0:
            return
        restore(place["start"], self.own_generators())
        self._begin(place["epoch"])
        for taken in range(place["position"]):
            if next(self._source, None) is None:
                raise ValueError(
                    f"the checkpoint stands after {place['position']} batches of epoch "
                    f"{place['epoch']}, but the data here has {taken}"
                )
        self.position = place["position"]


def generators(own: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """The states of these, of torch's on every device, of NumPy's and of Python's own."""
    version, numbers, gauss_next = random.getstate()
    kind, key, *rest = np.random.get_state()  # noqa: NPY002 - the one that data may draw from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, key.tolist(), *rest],
        "python": [version, list(numbers), gauss_next],
        "own": {name: generator.get_state() for name, generator in own.items()},
    }


def restore(states: Mapping[str, Any], own: Mapping[str, torch.Generator]) -> None:
    """Put every generator back into a state of :func:`generators`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    np.random.set_state(tuple(states["numpy"]))  # noqa: NPY002
    version, numbers, gauss_next = states["python"]
    random.setstate((version, tuple(numbers), gauss_next))
    for name, state in states["own"].items():
        if name in own:
            own[name].set_state(state)


def save_state(
    path: str | os.PathLike,
    identity: Identity,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    stream: Stream,
    history: Mapping[str, Any],
    accelerator,
) -> None:
    """Write a checkpoint, by the main process; each process adds its generators and its place."""
    from accelerate.utils import gather_object

    own = [{"generators": generators(stream.own_generators()), "place": stream.place()}]
    everyone = gather_object(own) if accelerator.num_processes > 1 else own
    if accelerator.is_main_process:
        content = {
            "identity": identity.facts,
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "scaler": scaler.state_dict(),
            "processes": everyone,
            "history": dict(history),
        }
        write_checkpoint(path, content)
    accelerator.wait_for_everyone()


def load_state(
    path: str | os.PathLike,
    identity: Identity,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    stream: Stream,
    accelerator,
) -> dict[str, Any]:
    """Put everything back as it was saved; return the history.

    Raises:
        ValueError: if the checkpoint is damaged or belongs to another run.
    """
    content = read_checkpoint(path)
    missing = {"identity", "model", "optimiser", "scaler", "processes", "history"} - set(content)
    if missing:
        raise ValueError(f"{path} is no checkpoint of a run: {', '.join(sorted(missing))} missing")
    differences = differing(part(content, "identity", path), identity.facts)
    if differences:
        raise ValueError(f"the checkpoint {path} belongs to another run: {differences}")
    model.load_state_dict(part(content, "model", path))
    optimiser.load_state_dict(content["optimiser"])
    if scaler.is_enabled():
        scaler.load_state_dict(content["scaler"])
    own = content["processes"][accelerator.process_index]
    stream.go_to(own["place"])
    restore(own["generators"], stream.own_generators())
    return content["history"]
