"""Shared by every test: shape checks on, one thread, a device parameter, and defaults put back."""

from __future__ import annotations

import os
import shutil

os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest

# Every annotated function of the library is checked at run time while it is tested.
jaxtyping.install_import_hook("lookback", "beartype.beartype")

import torch

torch.set_num_threads(1)

# Without a GPU, Triton's kernels run in its interpreter. That is settled when Triton is first
# imported, which torch leaves to whoever needs it.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(params=["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device that this machine has, in turn."""
    return torch.device(request.param)


@pytest.fixture
def no_shape_checks():
    """Run without jaxtyping, as a user does, so that a function's own errors are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def _defaults():
    """A fixed seed before, and torch's defaults after, every test."""
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the system's Chromium; what needs it is skipped where there is none."""
    return _system_program("Chromium", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def bubblewrap() -> str:
    """Path of bubblewrap; what needs it is skipped where there is none."""
    return _system_program("bubblewrap", "bwrap")


def _system_program(package: str, *names: str) -> str:
    path = next((found for found in map(shutil.which, names) if found), None)
    if path is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say(f"{package} is not installed: what needs it was not tested")
    return path


def tolerance(dtype: torch.dtype) -> dict[str, float]:
    """What rounding explains at this dtype: a few units in the last place of values near 1."""
    eps = torch.finfo(dtype).eps
    return {"rtol": 16 * eps, "atol": 16 * eps}
