"""One day for people: what happened, and nothing of what did not."""

from datetime import date

from broker.api.pool.reports import report_of
from hotseat.commands.report import lines_of

FIELDS = {
    "requests|local|named": 940,
    "requests|cloud|overflow": 50,
    "requests||": 10,
    "outcomes|local|served": 936,
    "tokens|local|a|prompt": 1_234_567,
    "swaps|a": 3,
    "wait|a|10": 900,
    "wait|b|7000": 40,
    "firstByte|local|a|150": 936,
    "load|a|3000": 3,
}


def shown(fields: dict[str, int]) -> list[str]:
    report = report_of("default", date(2026, 11, 21), fields)
    return lines_of(report.model_dump(by_alias=True, mode="json"))


def test_the_first_line_says_how_much_stayed_here() -> None:
    headline = "2026-11-21 (UTC), pool default: 1,000 requests: "
    assert shown(FIELDS)[0] == headline + "local 940 (94.0 %), cloud 50 (5.0 %), not routed 10 (1.0 %)"


def test_every_kind_has_its_table_and_times_their_percentiles() -> None:
    text = shown(FIELDS)
    at = text.index("WAIT FOR THE LEASE")
    assert text[at + 1 : at + 5] == [
        "  model  count  p50    p95",
        "  all    940    9 ms   10 ms",
        "  a      900    8 ms   10 ms",
        "  b      40     6.0 s  6.9 s",
    ]
    at = text.index("LOAD TIMES")
    assert text[at + 2].split() == ["a", "3", "2.5", "s", "3.0", "s"]
    assert "  local  a      prompt  1,234,567" in text
    assert ["-", "-", "10"] in [line.split() for line in text]


def test_an_empty_day_is_one_line() -> None:
    assert shown({}) == ["2026-11-21 (UTC), pool default: no requests"]
