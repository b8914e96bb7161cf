"""Build the book: execute what changed, then render strictly.

Jupyter Book's own cache keys on a page's cells alone, so a change in the library would leave old
output beside new source. Here a page is executed again when its code, a library module that it
imports (however deep), a file that it reads or a pinned dependency changes; and only then. The
executed pages are staged in ``_build/book`` as notebooks, and Jupyter Book renders that folder with
warnings as errors.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode

import library

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
STAGE = BUILD / "book"
HTML = STAGE / "_build" / "html"
CLAIMS = "_build/claims.json"


class PageError(Exception):
    """A page that cannot be shown: which page, which cell, what happened."""


@dataclass
class Page:
    """One document of the table of contents."""

    name: str  # as in _toc.yml, without a suffix
    path: Path
    notebook: NotebookNode | None  # None where there is no code to run

    @property
    def reads(self) -> list[str]:
        """Files, relative to the repository, that the page's code reads."""
        return self.notebook.metadata.get("reads", [])

    @property
    def code(self) -> list[NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def executed(self) -> Path:
        return BUILD / "pages" / f"{self.name}.ipynb"


def build(jobs: int) -> Path:
    """Execute, stage and render; returns the folder of the rendered book."""
    pages = [read_page(name) for name in contents()]
    runnable = [page for page in pages if page.notebook is not None]
    late = [page for page in runnable if CLAIMS in page.reads]
    execute([page for page in runnable if page not in late], jobs)
    write_claims([page for page in runnable if page not in late])
    execute(late, jobs)
    digest = stage(pages)
    render(digest)
    return HTML


def contents() -> list[str]:
    """Every document of ``_toc.yml``, in reading order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))

    def walk(node) -> list[str]:
        if isinstance(node, list):
            return [name for child in node for name in walk(child)]
        own = [node[key] for key in ("root", "file") if key in node]
        nested = [node[key] for key in ("parts", "chapters", "sections") if key in node]
        return own + walk(nested)

    return walk(toc)


def read_page(name: str) -> Page:
    """A page and, where it has code cells of its own to run, its notebook."""
    for suffix in (".md", ".ipynb"):
        path = ROOT / f"{name}{suffix}"
        if path.is_file():
            break
    else:
        raise PageError(f"_toc.yml names {name}, but there is no {name}.md or {name}.ipynb")
    # a released exercise is shown as it is handed out: not executed
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb" or "{code-cell}" not in text:
        return Page(name, path, None)
    return Page(name, path, jupytext.reads(text, fmt="md:myst"))


def execute(pages: list[Page], jobs: int) -> None:
    """Bring the stored outputs of ``pages`` up to date, a kernel of one thread each."""
    keys = {page.name: fingerprint(page) for page in pages}
    stale = [page for page in pages if stored_key(page) != keys[page.name]]
    if not stale:
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"executing {len(stale)} of {len(pages)} pages, {jobs} at a time", flush=True)
    with ThreadPoolExecutor(jobs) as pool:
        failures = list(pool.map(lambda page: run_page(page, keys[page.name]), stale))
    failures = [failure for failure in failures if failure]
    if failures:
        raise PageError("\n\n".join(failures))


def run_page(page: Page, key: str) -> str:
    """Execute one page and store it; returns what went wrong, or nothing."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError

    notebook = copy.deepcopy(page.notebook)
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(ROOT)}},
    )
    start = time.perf_counter()
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError) as error:
        return describe_failure(page, notebook, error)
    seconds = time.perf_counter() - start
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        noise = "".join(o.text for o in cell.outputs if o.get("name") == "stderr")
        if noise:
            return f"{page.path.relative_to(ROOT)}, code cell {number + 1} warns:\n{noise.strip()}"
    notebook.metadata["lookback"] = {"key": key, "seconds": round(seconds, 1)}
    write(page.executed, nbformat.writes(notebook))
    print(f"  {seconds:5.1f} s  {page.name}", flush=True)
    return ""


def describe_failure(page: Page, notebook: NotebookNode, error: Exception) -> str:
    """Page, cell and error, as a person needs them to mend it."""
    where = page.path.relative_to(ROOT)
    for number, cell in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                source = "\n".join(f"    {line}" for line in cell.source.splitlines())
                what = f"{output.ename}: {output.evalue}"
                return f"{where}, code cell {number + 1} fails:\n\n{source}\n\n{what}"
    return f"{where}: {error}"


def fingerprint(page: Page) -> str:
    """Hash of everything that the outputs of a page depend on."""
    options = [json.dumps(cell.metadata, sort_keys=True) for cell in page.code]
    code = [cell.source for cell in page.code]
    return library.fingerprint([*code, repr("".join(options))], page.reads)


def stored_key(page: Page) -> str:
    """Key of the stored outputs; empty where there are none, or none that can be read."""
    try:
        return json.loads(page.executed.read_text("utf-8"))["metadata"]["lookback"]["key"]
    except (OSError, ValueError, KeyError):
        return ""


def with_outputs(page: Page) -> NotebookNode:
    """The page as it is written now, with the outputs of its last execution."""
    stored = nbformat.read(page.executed, as_version=4)
    outputs = [cell for cell in stored.cells if cell.cell_type == "code"]
    for cell, executed in zip(page.code, outputs, strict=True):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
    for number, cell in enumerate(page.notebook.cells):
        cell.id = f"cell-{number}"  # random otherwise, and the page would look changed
    page.notebook.nbformat_minor = 5
    return page.notebook


def write_claims(pages: list[Page]) -> None:
    """Assemble ``_build/claims.json`` from what the executed pages recorded."""
    from lookback import claims

    try:
        ledger = claims.collect({page.name: with_outputs(page) for page in pages})
    except ValueError as error:
        raise PageError(f"the ledger of claims: {error}") from error
    write(ROOT / CLAIMS, json.dumps(ledger, indent=1, ensure_ascii=False) + "\n")


def stage(pages: list[Page]) -> str:
    """Lay out what Jupyter Book renders; returns a hash of it all."""
    wanted: dict[Path, bytes] = {}
    for page in pages:
        if page.notebook is None:
            wanted[STAGE / page.path.relative_to(ROOT)] = page.path.read_bytes()
        else:
            text = nbformat.writes(with_outputs(page))
            wanted[STAGE / f"{page.name}.ipynb"] = text.encode()
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    config["execute"] = {"execute_notebooks": "off"}  # the outputs are there
    wanted[STAGE / "_config.yml"] = yaml.safe_dump(config, allow_unicode=True).encode()
    wanted[STAGE / "_toc.yml"] = (ROOT / "_toc.yml").read_bytes()
    for extra in [*(ROOT / "book").rglob("_static/**/*"), *(ROOT / "book").glob("*.bib")]:
        if extra.is_file():
            wanted[STAGE / extra.relative_to(ROOT)] = extra.read_bytes()
    for path in [p for p in STAGE.rglob("*") if p.is_file()] if STAGE.is_dir() else []:
        if STAGE / "_build" not in path.parents and path not in wanted:
            path.unlink()
    digest = hashlib.sha256()
    for path, content in sorted(wanted.items()):
        digest.update(str(path.relative_to(STAGE)).encode() + content)
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return digest.hexdigest()


def render(digest: str) -> None:
    """Run Jupyter Book over the staged pages, warnings as errors; nothing where nothing changed."""
    done = BUILD / "book.rendered"
    if done.is_file() and done.read_text() == digest and (HTML / "index.html").is_file():
        print("the book is up to date", flush=True)
        return
    done.unlink(missing_ok=True)
    tool = str(Path(sys.executable).parent / "jupyter-book")
    command = [tool, "build", str(STAGE), "-W", "-n", "--keep-going"]
    print("rendering the book", flush=True)
    run = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"NO_COLOR": "1"}
    )
    if run.returncode:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr).splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line or "rror:" in line]
        raise PageError("Jupyter Book stopped:\n" + "\n".join(told or lines[-25:]))
    done.write_text(digest)


def write(path: Path, text: str) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="pages at a time")
    parser.add_argument("--fresh", action="store_true", help="forget every stored output first")
    options = parser.parse_args()
    if options.fresh:
        shutil.rmtree(BUILD / "pages", ignore_errors=True)
        shutil.rmtree(STAGE, ignore_errors=True)
        (BUILD / "book.rendered").unlink(missing_ok=True)
    try:
        html = build(options.jobs)
    except PageError as error:
        print(f"\nThe book was not built.\n\n{error}", file=sys.stderr)
        return 1
    print(f"the book: {html.relative_to(ROOT)}/index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
