"""Whether a gradebook can be written to, and what to do where it cannot."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEFAULT_COURSE = "default_course"  # nbgrader's own tools add it to every gradebook
WAIT = 5.0  # seconds that another writer is waited for


class GradebookError(RuntimeError):
    """The gradebook cannot be used; the message says why, and what to do."""


def check(url: str, course: str) -> None:
    """See that a gradebook can be written to, before anything is graded.

    Args:
        url: of the database, as ``CourseDirectory.db_url`` gives it.
        course: ``CourseDirectory.course_id``.

    Raises:
        GradebookError: if it is locked, read-only, damaged, of another course, or of another
            version of nbgrader.
    """
    import sqlalchemy

    path = _file(url)
    if path is not None and not path.exists():
        _check_folder(path.parent)
        return
    with named_errors(url):
        engine = sqlalchemy.create_engine(url, **_patience(url))
        try:
            with engine.connect() as connection:
                tables = set(sqlalchemy.inspect(connection).get_table_names())
                if tables:
                    load()
                    _check_version(connection, tables, url)
                    _check_course(connection, course, url)
            if path is not None:
                _check_writable(engine, path)
        finally:
            engine.dispose()


def load() -> None:
    """Load what writing needs, which takes a second: in a thread, while workers mark."""
    if "nbgrader.api" in sys.modules:
        return
    # jsonschema would compile a grammar of web addresses, for almost another second
    missing = "rfc3987_syntax" not in sys.modules
    if missing:
        sys.modules["rfc3987_syntax"] = None
    try:
        with contextlib.suppress(Exception):  # it is loaded again, and said, where it is needed
            importlib.import_module("nbgrader.api")
            importlib.import_module("alembic.config")
    finally:
        if missing:
            del sys.modules["rfc3987_syntax"]
    gc.freeze()  # nothing of it is ever garbage, nor worth a look when this process ends


def create(url: str) -> None:
    """Make the tables of a gradebook where there are none, and write down their version.

    nbgrader would start a command for the version, which takes longer than marking a submission.
    """
    import sqlalchemy
    from alembic.runtime.migration import MigrationContext
    from nbgrader.api import Base

    engine = sqlalchemy.create_engine(url, **_patience(url))
    try:
        with engine.begin() as connection:
            if not sqlalchemy.inspect(connection).get_table_names():
                Base.metadata.create_all(connection)
                MigrationContext.configure(connection).stamp(_scripts(), "head")
    finally:
        engine.dispose()


def _scripts() -> Any:
    """nbgrader's own steps from one version of its tables to the next."""
    import nbgrader
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(nbgrader.__file__).parent / "alembic"))
    return ScriptDirectory.from_config(config)


def _check_version(connection: Any, tables: set[str], url: str) -> None:
    import nbgrader

    shown = _shown(url)
    if not {"assignment", "grade", "alembic_version"} <= tables:
        raise GradebookError(
            f"{shown} is a database, but no gradebook of nbgrader: name another one"
        )
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    scripts = _scripts()
    head = scripts.get_current_head()
    if found == head:
        return
    older = found in {script.revision for script in scripts.walk_revisions()}
    mend = (
        "bring it up to date with `nbgrader db upgrade`, which keeps a copy"
        if older
        else "install the version of nbgrader that wrote it"
    )
    raise GradebookError(
        f"{shown} was written by {'an older' if older else 'another'} version of nbgrader "
        f"(its revision is {found}, that of nbgrader {nbgrader.__version__} is {head}): {mend}"
    )


def _check_course(connection: Any, course: str, url: str) -> None:
    rows = connection.exec_driver_sql("SELECT id FROM course").scalars().all()
    others = sorted(set(rows) - {DEFAULT_COURSE})
    if others and course not in others:
        raise GradebookError(
            f"{_shown(url)} belongs to the course {', '.join(map(repr, others))}, and this is "
            f"{course!r}: name this course's gradebook, or set CourseDirectory.course_id"
        )


def _check_writable(engine: Any, path: Path) -> None:
    """Take SQLite's write lock and give it back."""
    if not os.access(path, os.W_OK):
        raise GradebookError(f"{path} is read-only: see to its permissions (chmod u+w {path})")
    _check_folder(path.parent)
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("ROLLBACK")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise GradebookError(f"there is no folder {folder} for the gradebook: make it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise GradebookError(f"the folder {folder} of the gradebook is read-only: see to it")


def _file(url: str) -> Path | None:
    """The file of a SQLite database; None for any other."""
    import sqlalchemy

    try:
        parts = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise GradebookError(
            f"{url!r} is no address of a database; one is sqlite:///gradebook.db"
        ) from None
    if parts.get_backend_name() != "sqlite" or parts.database in (None, "", ":memory:"):
        return None
    return Path(parts.database).absolute()


def _patience(url: str) -> dict[str, Any]:
    return {"connect_args": {"timeout": WAIT}} if _file(url) is not None else {}


@contextlib.contextmanager
def named_errors(url: str) -> Iterator[None]:
    """What a database says, with what to do about it."""
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.NoSuchModuleError, ImportError) as error:
        said = str(getattr(error, "orig", None) or error)
        raise GradebookError(f"{_shown(url)}: {said}: {_mend(said)}") from None


def _mend(said: str) -> str:
    """What to do about what a database says."""
    for words, mend in (
        ("locked", "another program writes to it: close formgrader and other graders, run again"),
        ("readonly", "see to the permissions of the file and its folder"),
        ("not a database", "it is another kind of file: name this course's gradebook"),
        ("malformed", "it is damaged: restore a copy; the records are safe"),
        ("disk is full", "free some space and run again"),
        ("No module named", "install the driver of this database"),
    ):
        if words in said:
            return mend
    return "see that the database can be reached; the records are safe"


def _shown(url: str) -> str:
    """An address without the password in it."""
    import sqlalchemy

    path = _file(url)
    return str(path) if path else sqlalchemy.make_url(url).render_as_string(hide_password=True)
