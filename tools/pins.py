"""Compile requirements.txt from pyproject.toml: exact pins for every system, no addresses.

torch is pinned without a build tag, so that each machine takes its own build. What torch itself
demands on Linux (the CUDA packages) is left to torch: a machine with a CPU build needs none of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINNED = "torch==2.13.0\n"
LEFT_TO_TORCH = re.compile(r"^(nvidia-[\w-]+|cuda-\w+)==", re.MULTILINE)
NOWHERE = re.compile(r"^.*; .*sys_platform == 'emscripten'$\n", re.MULTILINE)


def main() -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(PINNED)
        constraints.flush()
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
        command += ["--no-header", "--no-annotate", "--extra", "dev", "--extra", "gpu"]
        command += ["--extra", "cluster", "--constraint", constraints.name, "pyproject.toml"]
        try:
            run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            sys.exit("uv is not installed: pip install uv, then run this again")
        except subprocess.CalledProcessError as error:
            sys.exit(f"uv could not resolve pyproject.toml:\n{error.stderr}")
    pins = NOWHERE.sub("", run.stdout)
    pins = "\n".join(line for line in pins.splitlines() if not LEFT_TO_TORCH.match(line))
    (ROOT / "requirements.txt").write_text(pins + "\n")


if __name__ == "__main__":
    main()
