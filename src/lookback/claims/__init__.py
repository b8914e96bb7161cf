"""What a page measured for a statement of the ledger, and the ledger as a whole.

A page ends a measurement with :func:`record`, whose value is shown as a box and stored, figures and
all, in the page's output. :func:`collect` gathers these from the executed pages; :func:`table`
shows the result. Import every name from here.
"""

from lookback.claims.collect import collect, letters, table
from lookback.claims.ledger import VERDICTS, Claim, ledger, sources
from lookback.claims.record import MIME, PENDING, Measurement, committed, record, spread

__all__ = [
    "MIME",
    "PENDING",
    "VERDICTS",
    "Claim",
    "Measurement",
    "collect",
    "committed",
    "ledger",
    "letters",
    "record",
    "sources",
    "spread",
    "table",
]
