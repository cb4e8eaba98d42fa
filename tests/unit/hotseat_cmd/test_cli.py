"""The command line finds its subcommands without importing them."""

import subprocess
import sys

import pytest

from hotseat import __version__, cli


def test_help_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in cli.SUBCOMMANDS)


def test_without_arguments_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "usage: hotseat" in capsys.readouterr().out


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"hotseat {__version__}\n"


def test_unknown_command_is_a_usage_error_that_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["swap"]) == cli.USAGE_ERROR
    shown = capsys.readouterr().err
    assert "no such command: swap" in shown
    assert "usage: hotseat" in shown


def test_subcommand_gets_the_rest_of_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(cli, "load", lambda _: lambda argv: seen.append(argv) or 7)
    assert cli.main(["ps", "--json"]) == 7
    assert seen == [["--json"]]


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load", lambda _: interrupted)
    assert cli.main(["ps"]) == cli.INTERRUPTED


def test_help_imports_none_of_the_parts() -> None:
    probe = (
        "import sys; from hotseat import cli; cli.usage(); heavy = {'broker', 'gpu_worker', 'schemas', 'pydantic'}; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & heavy))"
    )
    shown = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
