"""Checkpoints: one file each, written whole or not at all, read without running code from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def write_checkpoint(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dictionaries to one file.

    The file is written beside its place under another name, pushed to the disk, and renamed. Until
    then a checkpoint that was there stays as it was, so a full disk or a killed process costs the
    new one only.

    Args:
        path: where it goes; the folder is made.
        content: what :func:`torch.load` reads back with ``weights_only=True``.

    Raises:
        OSError: if it cannot be written; nothing half-written is left.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of this process's own: two runs on one path do not write into one another's file
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            torch.save(dict(content), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, RuntimeError):  # torch reports a failed write as one of its own
            raise OSError(f"the checkpoint {path} could not be written: {error}") from error
        raise


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read what :func:`write_checkpoint` wrote, to the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or holds anything but plain data.
    """
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen kinds, by where the damage is
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"{path} is damaged or no checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    return content


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Give a model the weights that a training run saved.

    Weights of another architecture are refused even where all shapes agree, as with another number
    of heads, as far as the checkpoint says what it was written for. To load them on purpose, say
    into a model of other positions: ``model.load_state_dict(read_checkpoint(path)["model"])``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, or written for a model of other weights or another
            architecture.
    """
    content = read_checkpoint(path)
    if "model" not in content:
        raise ValueError(f"{path} holds no model, only {', '.join(map(str, content)) or 'nothing'}")
    saved, identity = part(content, "model", path), part(content, "identity", path)
    written = {"model": shapes(saved), "architecture": identity.get("architecture", {})}
    here = {"model": shapes(model.state_dict()), "architecture": architecture(model)}
    differences = differing(written, here)
    if differences:
        raise ValueError(f"{path} was written for another model: {differences}")
    model.load_state_dict(saved)


def part(content: Mapping[str, Any], name: str, path: str | os.PathLike) -> Mapping[str, Any]:
    """One part of a checkpoint; empty where it has none of this name.

    Raises:
        ValueError: if the part is no dictionary.
    """
    found = content.get(name, {})
    if not isinstance(found, Mapping):
        kind = type(found).__name__
        raise ValueError(f"{path} is no checkpoint: its {name} is no dictionary but {kind}")
    return found


def shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Name → shape of everything in a ``state_dict``."""
    return {
        name: list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        for name, x in weights.items()
    }


def architecture(model: nn.Module) -> dict[str, Any]:
    """What ``model.config`` says of how the weights are used, where it is a dataclass.

    The same weights compute the same with another kernel, and but for training with another
    dropout, so these two are left out.
    """
    config = getattr(model, "config", None)
    names = [field.name for field in fields(config)] if is_dataclass(config) else []
    chosen = {name: getattr(config, name, None) for name in names}
    return plain({n: value for n, value in chosen.items() if n not in ("kernel", "dropout")})


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as far as they are numbers, flags and words."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
        if isinstance(value, (bool, int, float, str, tuple, type(None)))
    }


def differing(written: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What differs between two nested dictionaries, in words; empty where nothing does.

    A choice of ``architecture`` that was not written is no difference: a checkpoint written before
    there was such a choice still loads.
    """
    written, here = _flat(written), _flat(here)
    found = []
    for name in sorted({*written, *here}):
        if name not in here:
            found.append(f"{name} = {written[name]} is unknown to this run")
        elif name not in written:
            if not name.startswith("architecture."):
                found.append(f"{name} = {here[name]} was unknown to it")
        elif written[name] != here[name]:
            found.append(f"{name} was {written[name]}, here it is {here[name]}")
    shown = found[:5] + ([f"and {len(found) - 5} more"] if len(found) > 5 else [])
    return "; ".join(shown)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
