"""Where a committed result comes from, and how it is written: what the scripts here share."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from lookback import measure

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def provenance(
    command: str, device: torch.device | str = "cpu", packages: Sequence[str] = ()
) -> dict[str, object]:
    """Device, versions, command, commit and date, for every row of a result.

    Args:
        command: what to run to get the result again.
        device: where it was computed.
        packages: beside torch, whose versions matter.
    """
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "device": measure.device_name(torch.device(device)),
        "versions": versions | {name: version(name) for name in packages},
        "command": command,
        "commit": commit,
        "date": date.today().isoformat(),
    }


def write(name: str, rows: Sequence[dict]) -> Path:
    """Write ``benchmarks/results/<name>.json``, whole or not at all; returns its path."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    partial.replace(path)
    return path
