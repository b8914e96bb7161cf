"""Make .venv and install what the course needs into it. Needs nothing but Python itself.

Run again after an interruption or a change of pins: it finishes what is missing. Kept free of new
syntax, so that an old Python can say what is wrong.
"""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
READY = os.path.join(VENV, ".ready")
OLDEST = (3, 11)
GIGABYTES = 3  # with torch's CPU build; some 8 where torch brings CUDA


def stop(reason, mend):
    """Say what is wrong and what to do, and leave."""
    sys.exit("\nSet-up stopped: %s\n  %s\n" % (reason, mend))


def check_python():
    if sys.version_info < OLDEST:
        newer = next(
            (p for m in range(15, 10, -1) for p in [shutil.which("python3.%d" % m)] if p), None
        )
        stop(
            "this is Python %d.%d, and Lookback needs 3.11 or later." % sys.version_info[:2],
            "Run: make PYTHON=%s" % (newer or "/path/to/python3.11 (after installing it)"),
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        stop(
            "this Python lacks the venv module.",
            "Debian, Ubuntu: apt install python3-venv. Elsewhere: install Python from python.org.",
        )


def check_disk():
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < GIGABYTES:
        stop(
            "%.1f GB free on this disk, and the environment takes about %d." % (free, GIGABYTES),
            "Free some space, or clone to another disk; then run the same command again.",
        )


def run(*command):
    if subprocess.call(command):
        stop(
            "`%s` failed; its own message stands above." % " ".join(command),
            "Run the same command again: finished downloads are kept.",
        )


def main():
    check_python()
    python = os.path.join(VENV, "bin", "python")
    if not os.path.exists(python) or subprocess.call([python, "-c", "import pip"]):
        check_disk()
        print("making .venv", flush=True)
        run(sys.executable, "-m", "venv", "--clear", VENV)
    if os.path.exists(READY):
        os.remove(READY)
    print("installing the pinned packages (a few minutes the first time)", flush=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    run(*pip + ["-r", os.path.join(ROOT, "requirements.txt")])
    run(*pip + ["--no-deps", "-e", ROOT])
    with open(READY, "w") as file:
        file.write("ready\n")


if __name__ == "__main__":
    main()
