"""Writes the table of errors in ``docs/http-api.md`` from the error page, so that it names every code as it is told.

``python -m tools.error_table`` writes it; ``--check`` fails when it is out of step.
"""

import argparse
import sys
from pathlib import Path

from broker.protocol.endpoints import Dialect
from broker.protocol.error_page import ERRORS, ErrorRow, Surface

TARGET = Path(__file__).parent.parent / "docs" / "http-api.md"
BEGIN = "<!-- errors: written by `python -m tools.error_table` -->\n"
END = "<!-- errors end -->\n"
HEAD = "| code | our API | `/v1` | `Retry-After` | meaning |\n|---|---|---|---|---|\n"


def table() -> str:
    """All codes, then why some have two statuses."""
    reasons = dict.fromkeys(row.because for row in ERRORS.values() if row.because)
    marks = dict(zip(reasons, "¹²³⁴⁵", strict=False))
    lines = [_line(code, row, marks.get(row.because, "")) for code, row in ERRORS.items()]
    notes = [f"{mark} {because[:1].upper()}{because[1:]}." for because, mark in marks.items()]
    return HEAD + "".join(lines) + "\n" + "\n\n".join(notes) + "\n"


def _line(code: str, row: ErrorRow, mark: str) -> str:
    own = ", or that one's own" if row.is_quoted else ""
    ours = "" if row.where is Surface.V1 else f"{row.status_in(None)}{own}"
    v1 = "" if row.where is Surface.OURS else f"{row.status_in(Dialect.OPENAI)}{mark}{own}"
    name = f"`{code}`" if not row.v1_code else f"`{code}`, on `/v1` `{row.v1_code}`"
    lasting = "; `x-should-retry: false`" if row.is_lasting else ""
    return f"| {name} | {ours} | {v1} | {'yes' if row.after_s is not None else ''} | {row.meaning}{lasting} |\n"


def page() -> str:
    """The whole file, with today's table in it."""
    before, _, rest = TARGET.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


def main() -> int:
    """Write or check the file; exit status 1 when it is out of step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    if parser.parse_args().check:
        return 0 if TARGET.read_text(encoding="utf-8") == page() else 1
    TARGET.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
