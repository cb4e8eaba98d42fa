"""The tables of `hotseat ps`."""

from hotseat.looking import table


def test_columns_are_as_wide_as_they_must_be() -> None:
    assert table([("A", "B", "C"), ("long one", "x", "y")]) == ["A         B  C", "long one  x  y"]


def test_a_long_remark_widens_no_column() -> None:
    remark = "failed: " + "usage " * 40
    lines = table([("SLOT", "MODEL", "WORKER"), ("gpu0", "a", "local"), ("", remark.strip(), "")])
    assert lines[:2] == ["SLOT  MODEL  WORKER", "gpu0  a      local"]
    assert lines[2] == f"      {remark.strip()}"
