"""A mistake on the command line is told in its words, with what may have been meant."""

import pytest

from hotseat import cli
from hotseat.arguments import PRIORITIES, meant
from hotseat.asking import parser
from hotseat.holding import release
from hotseat.running import _signal, run

MISTAKES = [
    (["--ttl", "0.5"], "--ttl must be at least 1 second, not 0.5"),
    (["--ttl", "-3"], "--ttl must be at least 1 second, not -3"),
    (["--ttl", "90000"], "--ttl must be at most 86400 seconds, not 90000"),
    (["--ttl", "nan"], "--ttl must be a number of seconds, not 'nan'"),
    (["--ttl", "1m"], "--ttl must be a number of seconds, not '1m'"),
    (["--expected", "0"], "--expected must be more than 0 seconds, not 0"),
    (
        ["--priority", "urgent"],
        "--priority must be interactive, normal, background, batch, or a whole number from -5 to 5",
    ),
    (["--priority", "bakground"], "not 'bakground'; did you mean background?"),
    (["--priority", "6"], "--priority must be interactive, normal, background, batch"),
    (["--priority", "2.5"], "--priority must be interactive, normal, background, batch"),
    (["--intent", "warn"], "--intent must be use or warm, not 'warn'; did you mean warm?"),
    (["--session", ""], "--session must have 1 to 256 characters, not 0"),
    (["--session", "a{b}"], "--session must not contain '{'"),
    (["--session", "a\nb"], "--session must not contain '\\n'"),
    (["--session", "\udce4"], "--session must not contain '\\udce4'"),
    (["--holder", "x" * 129], "--holder must have 1 to 128 characters, not 129"),
    (["--sesion", "me"], "no such argument: --sesion; did you mean --session?"),
    (["--max-wait", "0"], "--max-wait must be more than 0 seconds, not 0"),
]


@pytest.mark.parametrize("words, says", MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_is_told_in_the_words_of_the_command_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser("hotseat lease", "").parse_args(["a", *words])
    shown = capsys.readouterr().err
    assert ended.value.code == 2
    assert says in shown
    assert "argument --" not in shown


@pytest.mark.parametrize("model", ["", "a b", "../x", "-x-", "a" * 129])
def test_a_models_name_is_one(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("hotseat lease", "").parse_args(["--", model])
    assert "must be a model's name as `hotseat ps` shows it" in capsys.readouterr().err


@pytest.mark.parametrize("priority", [*PRIORITIES, "-5", "+3", "0"])
def test_every_class_is_taken_by_name_and_by_number(priority: str) -> None:
    taken = parser("hotseat lease", "").parse_args(["a", "--priority", priority]).priority
    assert taken == (priority if priority in PRIORITIES else int(priority))


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["L1"],
        ["--nonce", "n"],
        ["--session", "s"],
        ["L1", "--nonce", "n", "--session", "s"],
        ["L1", "--model", "m"],
    ],
)
def test_a_release_names_one_lease_in_one_way(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        release(argv)
    assert "name the lease by LEASE --nonce NONCE, or by --session KEY --model NAME" in capsys.readouterr().err


def test_run_says_where_the_command_goes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["a"])
    assert "say what to run after `--`" in capsys.readouterr().err


@pytest.mark.parametrize("text, number", [("TERM", 15), ("sigusr1", 10), ("10", 10), ("none", None), ("NONE", None)])
def test_a_signal_is_named_as_kill_names_it(text: str, number: int | None) -> None:
    assert _signal(text) == number


@pytest.mark.parametrize("text", ["USR", "SIGSIGTERM", "0", "99", ""])
def test_what_is_no_signal_is_told_with_what_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["a", "--warn-signal", text, "--", "true"])
    assert "--warn-signal must be a signal, such as TERM or USR1, or none" in capsys.readouterr().err


def test_names_are_suggested_by_likeness_and_by_part() -> None:
    models = ["gemma-270m", "gemma-270m-f16", "Qwen3-32B"]
    assert meant("gema-270m", models) == "; did you mean gemma-270m or gemma-270m-f16?"
    assert meant("qwen", models) == "; did you mean Qwen3-32B?"
    assert meant("mistral", models) == ""


def test_a_mistyped_command_is_answered_with_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["realease"]) == cli.USAGE_ERROR
    assert "no such command: realease; did you mean release or lease?" in capsys.readouterr().err
