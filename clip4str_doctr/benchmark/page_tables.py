"""The table of a report of pages."""

from collections.abc import Mapping
from typing import Any

from clip4str_doctr.benchmark.tables import Table

__all__ = ["page_tables"]

_SHARES = {
    "recall": "found",
    "precision": "boxes that are words",
    "word_accuracy": "read, of all words",
    "word_precision": "read, of all boxes",
    "hmean": "H-mean",
    "hmean_uncased": "H-mean, uncased",
    "cer": "CER",
    "cer_rows": "CER of rows",
}


def page_tables(report: Mapping[str, Any]) -> list[Table]:
    """One table for each kind of pages: a row for each pair of detector and recogniser."""
    tables = []
    for kind in dict.fromkeys(row["kind"] for row in report["rows"]):
        rows = [row for row in report["rows"] if row["kind"] == kind]
        cells = tuple(
            (
                row["reader"],
                *("" if row.get(key) is None else f"{100 * row[key]:.1f}" for key in _SHARES),
                f"{sum(row['seconds_per_page'].values()):.1f}",
            )
            for row in rows
        )
        title = f"{kind}: {rows[0]['words']} words on {rows[0]['pages']} pages, per cent"
        tables.append(Table(title, ("detector and recogniser", *_SHARES.values(), "seconds a page"), cells))
    return tables
