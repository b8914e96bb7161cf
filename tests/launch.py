"""Start a program that starts others, and leave none of them behind."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path


def launch(command: list[str], *, cwd: Path, timeout: float) -> str:
    """Run to the end in a session of its own, on the CPU with one thread; return what it printed.

    Raises:
        AssertionError: with what it wrote to standard error, if it failed or took too long.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True, **pipes)
    try:
        out, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, error = process.communicate()
        raise AssertionError(f"not done after {timeout} s:\n{out}\n{error}") from None
    assert process.returncode == 0, error[-3000:]
    return out
