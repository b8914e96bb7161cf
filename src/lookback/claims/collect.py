"""The whole ledger with everything that the executed pages measured."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from lookback.claims.ledger import VERDICTS, Claim, ledger, marked_up, sources
from lookback.claims.record import MIME, figures_html


class Html(str):
    """HTML that a notebook shows as such."""

    def _repr_html_(self) -> str:
        return str(self)


def collect(notebooks: Mapping[str, Mapping]) -> dict:
    """Assemble the ledger from the outputs that executed pages hold.

    Args:
        notebooks: name of the page (``book/05_self_attention/scaling``) → its notebook.

    Returns:
        ``sources``, and under ``claims`` one row a claim in the ledger's order: ``id``,
        ``statement``, ``source``, ``how``, ``chapters``, ``verdict`` (None where nothing is
        measured yet, "holds in part" where pages disagree), ``missing`` (chapters that have yet to
        measure it) and ``measurements``, one a page: ``page``, ``verdict``, ``says``, ``figures``,
        ``pending``, ``device``, ``seeds``.

    Raises:
        ValueError: if a page records a claim twice, or one that is not of its chapter, or one that
            the ledger lacks.
    """
    claims = ledger()
    found: dict[str, list[dict]] = {id: [] for id in claims}
    for page, notebook in notebooks.items():
        for measurement in _measurements(notebook):
            id = measurement.pop("id")
            if id not in claims:
                raise ValueError(f"{page} records {id!r}, which the ledger lacks")
            if any(other["page"] == page for other in found[id]):
                raise ValueError(f"{page} records the claim {id!r} twice")
            chapter = _chapter(page)
            if chapter is not None and chapter not in claims[id].chapters:
                wanted = " and ".join(map(str, claims[id].chapters))
                raise ValueError(f"{page} records {id!r}, a claim of chapter {wanted}")
            found[id].append({"page": page} | measurement)
    rows = [_row(claim, found[id]) for id, claim in claims.items()]
    return {"sources": sources(), "claims": rows}


def table(collected: Mapping, *, folder: str = "book") -> Html:
    """The ledger as an HTML table, chapter by chapter: verdict, statement, figures, page.

    Args:
        collected: from :func:`collect`.
        folder: of the page that shows the table; links lead from there.
    """
    head = '<tr><th scope="col">Verdict</th><th scope="col">Statement</th></tr>'
    parts, chapter = [], None
    for row in collected["claims"]:
        if row["chapters"][0] != chapter:
            chapter = row["chapters"][0]
            parts.append(f'<tr><th scope="rowgroup" colspan="2">Chapter {chapter}</th></tr>')
        parts.append(_table_row(row, folder))
    return Html(
        f'<table class="ledger"><thead>{head}</thead><tbody>{"".join(parts)}</tbody></table>'
    )


def letters(collected: Mapping) -> Html:
    """What each letter of the table's sources stands for, as an HTML list.

    Args:
        collected: from :func:`collect`.
    """
    items = (f"<li><b>{a}</b>: {marked_up(who)}</li>" for a, who in collected["sources"].items())
    return Html(f"<ul>{''.join(items)}</ul>")


def _row(claim: Claim, measurements: list[dict]) -> dict:
    verdicts = {measurement["verdict"] for measurement in measurements}
    agreed = next(iter(verdicts)) if len(verdicts) == 1 else "holds in part"
    measured = {_chapter(measurement["page"]) for measurement in measurements}
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": list(claim.sources),
        "how": claim.how,
        "chapters": list(claim.chapters),
        "verdict": agreed if measurements else None,
        "missing": [chapter for chapter in claim.chapters if chapter not in measured],
        "measurements": measurements,
    }


def _measurements(notebook: Mapping) -> list[dict]:
    return [
        dict(output["data"][MIME])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if MIME in output.get("data", {})
    ]


def _chapter(page: str) -> int | None:
    """Number of the chapter whose folder holds the page; None outside the chapters."""
    numbered = re.search(r"(?:^|/)(\d\d)_[^/]+/", page)
    return int(numbered[1]) if numbered else None


def _table_row(row: Mapping, folder: str) -> str:
    verdict = row["verdict"]
    told = f"{VERDICTS[verdict]} {verdict}" if verdict else "not yet"
    details = f"<p>{marked_up(row['how'])}</p>"
    for measurement in row["measurements"]:
        where = ", ".join([measurement["device"], *_with_seeds(measurement["seeds"])])
        details += f"<p>{_link(measurement['page'], folder)}: {marked_up(measurement['says'])}</p>"
        details += figures_html(measurement["figures"] | measurement["pending"])
        details += f"<p><small>{marked_up(where)}</small></p>"
    if row["missing"]:
        details += (
            f"<p>Still to be measured in chapter {' and '.join(map(str, row['missing']))}.</p>"
        )
    links = [_link(measurement["page"], folder) for measurement in row["measurements"]]
    statement = f"{marked_up(row['statement'])} <small>({', '.join(row['source'])})</small>"
    return (
        f'<tr id="claim-{row["id"]}"><td>{told}</td><td><p>{" · ".join([statement, *links])}</p>'
        f"<details><summary>{'Figures' if row['measurements'] else 'How'}</summary>{details}"
        "</details></td></tr>"
    )


def _with_seeds(seeds: list[int]) -> list[str]:
    return [f"seeds {', '.join(map(str, seeds))}"] if seeds else []


def _link(page: str, folder: str) -> str:
    target = os.path.relpath(page, folder).replace(os.sep, "/")
    chapter, name = _chapter(page), page.rpartition("/")[2].replace("_", " ")
    return f'<a href="{target}.html">{f"{chapter}, " if chapter else ""}{marked_up(name)}</a>'
