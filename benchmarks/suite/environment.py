"""An environment of their own for the peers, in which the course's library can be imported too."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
VENV = ROOT / "_build" / "bench-venv"
REQUIREMENTS = ROOT / "benchmarks" / "requirements.txt"
PEERS = {"x_transformers": "x-transformers", "transformers": "Hugging Face transformers"}


def python() -> Path:
    """The interpreter of the peers' environment, made or brought up to date if need be.

    It sees every package of the course, torch above all, so that both sides of a comparison run on
    the same build; only what the course lacks is installed. Where that fails (no network), the
    environment serves without the peers, and :func:`missing` names them.
    """
    found = VENV / "bin" / "python"
    digest = sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    ready = VENV / ".ready"
    if ready.is_file() and ready.read_text("utf-8") == digest:
        return found
    print("installing the peers (a minute the first time)", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], check=True)
    ask = [str(found), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    course = f"{sysconfig.get_path('purelib')}\n{ROOT / 'src'}\n"
    Path(packages, "course.pth").write_text(course, "utf-8")
    install = [str(found), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    if subprocess.run([*install, "-r", str(REQUIREMENTS)]).returncode:
        print("the peers could not be installed: comparing without them", file=sys.stderr)
    else:
        ready.write_text(digest, "utf-8")
    return found


def missing() -> list[str]:
    """Peers that cannot be imported here."""
    return [name for module, name in PEERS.items() if find_spec(module) is None]
