"""The training loop: fetch, forward, backward, clip, step; validate, save, stop."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lookback.training.schedules import Schedule
from lookback.training.state import Identity, Stream, load_state, save_state

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}

Loss = Callable[[nn.Module, Any], tuple[Tensor, Tensor | int]]


@dataclass
class History:
    """What a run measured, one entry a step.

    Attributes:
        loss: mean loss of a target, over all processes, before the step's update.
        rate: learning rate of the first group of parameters.
        gradient_norm: norm of the whole gradient before clipping.
        targets: targets (tokens) that the loss counted.
        seconds: wall time of the step, validation and saving left out.
        validation: ``(steps done, value)`` of each validation.
        stopped_early: whether patience ended the run.
    """

    loss: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    gradient_norm: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    stopped_early: bool = False


def train(
    model: nn.Module,
    loss: Loss,
    batches: Iterable,
    optimiser: torch.optim.Optimizer,
    *,
    steps: int,
    accumulate: int = 1,
    clip: float | None = None,
    schedule: Schedule | None = None,
    precision: str | None = None,
    device: torch.device | str | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 100,
    patience: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    config: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> History:
    """Train a model, alone or as one of several processes of ``torchrun`` or ``accelerate launch``.

    The loss is a sum and a count, and the gradient is divided by the count of the whole step. So
    neither cutting a batch into pieces (``accumulate``) nor sharing it between processes changes
    what is computed, however the padding falls.

    Args:
        model: changed in place; moved to the device.
        loss: ``loss(model, batch) → (sum, count)``: the summed loss of the batch's targets, and
            their number, as :func:`token_loss` gives them. It calls ``model(…)`` itself.
        batches: one pass is an epoch. Each batch is a (named) tuple, list or dictionary of tensors
            with the examples along the first axis; process ``r`` of ``n`` takes examples
            ``r, r + n, …``. Its order is decided by seed and epoch (``set_epoch`` of the object,
            its ``batch_sampler`` or ``sampler`` is called where there is one) or by torch's
            generator.
        optimiser: over the model's parameters.
        steps: updates in the whole run, those before a checkpoint included.
        accumulate: batches in one step.
        clip: largest norm of the gradient; longer ones are scaled down to it.
        schedule: factor on the optimiser's rates by the number of steps done. The rates themselves
            stay as they are.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` (with loss scaling) for the
            forward pass; what the launcher was told, otherwise float32, when left out.
        device: where to train; accelerate's choice when left out.
        validate: called on every process with the plain model in evaluation mode and without
            gradient; lower is better.
        validate_every: steps between validations.
        patience: validations in a row without a new best value after which the run stops.
        checkpoint: file to save to, and to go on from where it exists. The resumed run gives the
            losses of an unbroken one: model, optimiser, loss scale, place in the data and random
            generators are restored, those of torch, NumPy and Python as well as a ``generator`` of
            the loader or its samplers.
        checkpoint_every: steps between saves; the last step always saves.
        config: what else must be equal for a checkpoint to fit, of plain data.
        progress: show a bar; where standard error is a terminal when left out.

    Returns:
        The history of the whole run, those steps before a checkpoint included.

    Raises:
        ValueError: if a number is out of range, the precision is unknown, the data is empty, a step
            has no target, a batch is too small to share, or a checkpoint is damaged or belongs to
            another run (naming what differs).
    """
    _check_numbers(steps, accumulate, clip, validate_every, patience, checkpoint_every)
    accelerator, device = _accelerator(device)
    precision = _precision(precision, accelerator)
    bare = model.to(device)
    several = accelerator.num_processes > 1
    model = accelerator.prepare_model(bare, device_placement=False) if several else bare
    # the loss is a sum, larger than a mean by the number of targets: scale it up by less
    scaler = torch.amp.GradScaler(device.type, init_scale=256.0, enabled=precision == "float16")
    identity = Identity.of(
        bare,
        optimiser,
        config,
        {"accumulate": accumulate, "clip": clip, "precision": precision},
        processes=accelerator.num_processes,
    )
    stream, history = Stream(batches), History()
    if checkpoint is not None and Path(checkpoint).exists():
        saved = load_state(checkpoint, identity, bare, optimiser, scaler, stream, accelerator)
        history = History(**saved)
        history.validation = [(step, value) for step, value in history.validation]

    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    training = bare.training
    bar = _bar(steps, len(history.loss), progress, accelerator)
    for step in range(len(history.loss), steps):
        if history.stopped_early:
            break
        began = time.perf_counter()
        bare.train()
        sums = torch.zeros(2, dtype=torch.float64)  # loss, targets
        optimiser.zero_grad(set_to_none=True)
        for piece in range(accumulate):
            batch = _share(stream.next(), accelerator, device)
            # processes exchange gradients once a step, with the last piece
            waiting = several and piece < accumulate - 1
            with model.no_sync() if waiting else contextlib.nullcontext():
                with _autocast(device, precision):
                    summed, count = loss(model, batch)
                scaler.scale(summed).backward()
            sums += torch.tensor([float(summed.detach()), float(count)], dtype=torch.float64)
        total, count = accelerator.reduce(sums.to(device), "sum").tolist() if several else sums
        total, count = float(total), float(count)
        if count == 0:
            raise ValueError(f"step {step} has no target: its loss has no mean")
        scaler.unscale_(optimiser)
        for p in parameters:
            if p.grad is not None:  # processes hold the mean of their gradients, not the sum
                p.grad.mul_(accelerator.num_processes / count)
        norm = nn.utils.clip_grad_norm_(parameters, float("inf") if clip is None else clip)
        with _rates(optimiser, 1.0 if schedule is None else schedule(step)):
            history.rate.append(optimiser.param_groups[0]["lr"])
            scaler.step(optimiser)
        scaler.update()

        history.loss.append(total / count)
        history.gradient_norm.append(float(norm))
        history.targets.append(int(count))
        history.seconds.append(time.perf_counter() - began)
        _show(bar, history)
        done = step + 1
        if validate is not None and done % validate_every == 0:
            history.validation.append((done, _validated(validate, bare)))
            history.stopped_early = _out_of_patience(history.validation, patience)
        last = done == steps or history.stopped_early
        if checkpoint is not None and (last or done % checkpoint_every == 0):
            save_state(
                checkpoint, identity, bare, optimiser, scaler, stream, asdict(history), accelerator
            )
    bar.close()
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    bare.train(training)
    return history


def _accelerator(device: torch.device | str | None):
    from accelerate import Accelerator

    accelerator = Accelerator(device_placement=False)
    return accelerator, accelerator.device if device is None else torch.device(device)


def _precision(precision: str | None, accelerator) -> str:
    if precision is None:
        return {"bf16": "bfloat16", "fp16": "float16"}.get(accelerator.mixed_precision, "float32")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return precision


def _autocast(device: torch.device, precision: str):
    dtype = PRECISIONS[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def _rates(optimiser: torch.optim.Optimizer, factor: float) -> Iterator[None]:
    """The optimiser's rates times a factor, for one update."""
    own = [group["lr"] for group in optimiser.param_groups]
    for group, rate in zip(optimiser.param_groups, own, strict=True):
        group["lr"] = rate * factor
    try:
        yield
    finally:
        for group, rate in zip(optimiser.param_groups, own, strict=True):
            group["lr"] = rate


def _share(batch: Any, accelerator, device: torch.device) -> Any:
    """This process's examples of a batch, on its device."""
    from accelerate.utils import find_batch_size, send_to_device, slice_tensors

    rank, n = accelerator.process_index, accelerator.num_processes
    if n > 1:
        size = find_batch_size(batch)
        if size is None or size < n:
            raise ValueError(f"a batch of {size} examples cannot be shared by {n} processes")
        batch = slice_tensors(batch, slice(rank, None, n))
    return send_to_device(batch, device)


def _validated(validate: Callable[[nn.Module], float], model: nn.Module) -> float:
    model.eval()
    with torch.no_grad():
        return float(validate(model))


def _out_of_patience(validation: list[tuple[int, float]], patience: int | None) -> bool:
    if patience is None:
        return False
    # a value that is no number is worse than any number
    ranks = [(math.isnan(value), value) for _, value in validation]
    return len(ranks) - 1 - ranks.index(min(ranks)) >= patience


def _bar(steps: int, done: int, progress: bool | None, accelerator):
    from tqdm import tqdm

    disable = None if progress is None else not progress
    return tqdm(
        total=steps,
        initial=done,
        unit="step",
        disable=disable if accelerator.is_main_process else True,
    )


def _show(bar, history: History) -> None:
    speed = history.targets[-1] / max(history.seconds[-1], 1e-9)
    bar.set_postfix({"loss": f"{history.loss[-1]:.4f}", "tokens/s": f"{speed:,.0f}"}, refresh=False)
    bar.update()


def _check_numbers(steps, accumulate, clip, validate_every, patience, checkpoint_every) -> None:
    named = {
        "steps": steps,
        "accumulate": accumulate,
        "validate_every": validate_every,
        "checkpoint_every": checkpoint_every,
    } | ({} if patience is None else {"patience": patience})
    for name, value in named.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if clip is not None and not clip > 0:
        raise ValueError(f"the largest norm must be positive, got clip = {clip}")
