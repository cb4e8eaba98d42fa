"""`hotseat report`: what /v1 served on one day, from the counts that the brokers keep in the store."""

import json
import sys
from typing import Any
from urllib.parse import urlencode

from hotseat.clients.http_api import BrokerError, Client
from hotseat.commands.ps import text_table
from hotseat.terminal.arguments import add_url
from schemas.command_line import CommandLine

_Report = dict[str, Any]
TODAY = ""
TITLES = {
    "requests": "REQUESTS",
    "outcomes": "OUTCOMES",
    "retries": "TRIED AGAIN",
    "tokens": "TOKENS",
    "loads": "LOADS",
    "failedLoads": "FAILED LOADS",
    "swaps": "SWAPS (loads that evicted another model)",
    "semanticFailures": "ANSWERS OF NO USE",
    "costMicro": "SPENT AT UPSTREAMS (millionths)",
    "savedMicro": "SAVED BY THE POOL, ESTIMATED (millionths)",
    "wait": "WAIT FOR THE LEASE",
    "firstByte": "FIRST BYTE AFTER IT",
    "firstToken": "FIRST TOKEN OF STREAMS",
    "load": "LOAD TIMES",
}
"""Headings by kind of count; a kind that this version does not know is shown under its own name."""


def report(argv: list[str]) -> int:
    """Run `hotseat report`: requests by route and reason, waits, tokens, loads of one day."""
    parser = CommandLine(prog="hotseat report", description="What /v1 served on one day.")
    parser.add_argument("--day", default=TODAY, metavar="YYYY-MM-DD", nargs="?", const=TODAY, help="UTC (today)")
    parser.add_argument("--json", action="store_true", help="the broker's own report, for scripts")
    add_url(parser)
    arguments = parser.parse_args(argv)
    query = f"?{urlencode({'day': arguments.day})}" if arguments.day else ""
    try:
        found = Client.from_environment(url=arguments.url).get(f"/report{query}")
    except BrokerError as error:
        print(f"hotseat: {error}", file=sys.stderr)
        return 1 if error.status else 3
    print(json.dumps(found, indent=2) if arguments.json else "\n".join(lines_of(found)))
    return 0


def lines_of(found: _Report) -> list[str]:
    """Write the report as lines for people."""
    lines = [f"{found['day']} (UTC), pool {found['pool']}: {_headline(found)}"]
    for kind, rows in found["counts"].items():
        heads = [*rows[0]["labels"], "count"]
        body = [(*(label or "-" for label in row["labels"].values()), f"{row['count']:,}") for row in rows]
        lines += _section(kind, heads, body)
    for kind, rows in found["times"].items():
        heads = [*rows[-1]["labels"], "count", "p50", "p95"]
        width = len(heads) - 3
        body = [(*_labels(row, width), f"{row['count']:,}", *_spans(row)) for row in rows if row["labels"] or not width]
        total = [(*_all(width), f"{row['count']:,}", *_spans(row)) for row in rows if not row["labels"]]
        lines += _section(kind, heads, total + body if len(body) > 1 else body)
    return lines


def _headline(found: _Report) -> str:
    routes: dict[str, int] = {}
    for row in found["counts"].get("requests", []):
        route = row["labels"]["route"] or "not routed"
        routes[route] = routes.get(route, 0) + row["count"]
    total = sum(routes.values())
    if not total:
        return "no requests"
    parts = ", ".join(f"{route} {count:,} ({100 * count / total:.1f} %)" for route, count in routes.items())
    return f"{total:,} requests: {parts}"


def _labels(row: _Report, width: int) -> tuple[str, ...]:
    return tuple(label or "-" for label in row["labels"].values())[:width]


def _all(width: int) -> tuple[str, ...]:
    return ("all", *[""] * (width - 1)) if width else ()


def _spans(row: _Report) -> tuple[str, str]:
    return _span(row["p50Seconds"]), _span(row["p95Seconds"])


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _section(kind: str, heads: list[str], rows: list[tuple[str, ...]]) -> list[str]:
    return ["", TITLES.get(kind, kind), *(f"  {line}" for line in text_table([tuple(heads), *rows]))]
