"""The tables of `hotseat ps`."""

from typing import Any

import pytest

from hotseat.commands import ps
from hotseat.commands.ps import text_table


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert text_table([("A", "B", "C"), ("long one", "x", "y")]) == ["A         B  C", "long one  x  y"]


def test_a_long_remark_widens_no_column() -> None:
    remark = "failed: " + "usage " * 40
    lines = text_table([("SLOT", "MODEL", "WORKER"), ("gpu0", "a", "local"), ("", remark.strip(), "")])
    assert lines[:2] == ["SLOT  MODEL  WORKER", "gpu0  a      local"]
    assert lines[2] == f"      {remark.strip()}"


def gone(why: str, model: str | None = None, **more: object) -> dict[str, Any]:
    left = {"slot": "gpu0", "secondsAgo": 42.0, "why": why, "madeRoomFor": model}
    return {"models": [{"name": "a", "state": "absent", "left": left, **more}]}


@pytest.mark.parametrize(
    "why, reason",
    [
        ("waiters", "for b, which was asked for"),
        ("prefetch", "for b, fetched in advance"),
        ("restore", "for b, which is to be there while nobody is active"),
        ("server_died", "its server died"),
        ("operator:anna", "for b, which anna loaded by hand"),
        ("off", "it was taken out of service"),
        ("something_new", "something new"),
    ],
)
def test_it_is_said_how_a_model_went_and_for_which(why: str, reason: str) -> None:
    assert ps._absent_lines(gone(why, "b")) == ["", f"a: went from gpu0 42 s ago, {reason}"]


def test_what_an_operator_unloaded_is_told_with_who_it_was() -> None:
    assert ps._absent_lines(gone("operator:anna"))[1] == "a: went from gpu0 42 s ago, anna unloaded it by hand"


def test_what_is_here_or_went_long_ago_is_not_news() -> None:
    assert ps._absent_lines({"models": [{"name": "a", "state": "ready", "left": None}]}) == []
    old = gone("waiters", "b")
    old["models"][0]["left"]["secondsAgo"] = 4000.0
    assert ps._absent_lines(old) == []


def listed(**more: object) -> dict[str, Any]:
    lease = {"leaseId": "L1", "state": "active", "intent": "use", "model": "a", "priority": "normal", "heldSeconds": 7}
    return {"leases": [{**lease, "sessionKey": "s", **more}]}


def test_a_label_has_a_column_and_is_told_as_it_was_given() -> None:
    head, line = ps._lease_lines(listed(label="nightly%20run%20%7B7%7D"))[1:]
    assert head.split()[-2:] == ["SESSION", "LABEL"]
    assert line.endswith("  nightly run {7}")


def test_where_nobody_gave_a_label_there_is_no_column() -> None:
    for more in ({}, {"label": ""}):  # an earlier broker tells none
        head, line = ps._lease_lines(listed(**more))[1:]
        assert head.split()[-1] == "SESSION"
        assert line.endswith("  s")


def test_a_pinned_model_that_is_missing_is_news() -> None:
    [_, line] = ps._absent_lines(gone("server_died", pinned=True))
    assert line == "a: went from gpu0 42 s ago, its server died; it is pinned, but no slot has loaded it"
