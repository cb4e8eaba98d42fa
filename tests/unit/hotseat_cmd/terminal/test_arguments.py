"""A mistake on the command line is told in its words, with what may have been meant."""

import pytest

from hotseat import cli
from hotseat.clients.waiting import parser
from hotseat.commands.lease import release
from hotseat.commands.run import _signal, run
from hotseat.terminal.arguments import PRIORITIES
from schemas.command_line import meant

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


ELSEWHERE = [
    (["up", "--port", "99999"], "--port must be a whole number from 0 to 65535, not '99999'"),
    (["up", "--port", "-1"], "--port must be a whole number from 0 to 65535, not '-1'"),
    (["up", "--store-port", "65536"], "--store-port must be a whole number from 0 to 65535, not '65536'"),
    (["up", "--turns", "0"], "--turns must be a whole number from 1 to"),
    (["up", "--think", "nan"], "--think must be a number of seconds, not 'nan'"),
    (["mcp", "--http", "127.0.0.1:80"], "--http must be a whole number from 0 to 65535, not '127.0.0.1:80'"),
    (["export", "litellm", "--context-tokens", "0"], "--context-tokens must be a whole number from 1 to 100000000"),
    (["key", "new", 'a"b'], "name must be of letters, digits and ._:/@-, at most 128, the first a letter or a digit"),
    (["key", "new", "a\nb\n"], "name must be of letters, digits"),
    (
        ["key", "new", "x", "--scope", "opserve"],
        "--scope must be lease, observe, operate or admin, not 'opserve'; did you",
    ),
    (["broker", "--confg", "x"], "no such argument: --confg; did you mean --config?"),
    (["worker", "--confg", "x"], "no such argument: --confg; did you mean --config?"),
    (["check", "--confg", "x"], "no such argument: --confg; did you mean --config?"),
    (["poller", "--onec"], "no such argument: --onec; did you mean --once"),
    (["export-schemas", "--chek"], "no such argument: --chek; did you mean --check"),
    (["import", "x.yaml", "--budget-mib", "0"], "--budget-mib must be a whole number from 1 to 16777216, not '0'"),
    (["route", "x.jsonl", "--sumary"], "no such argument: --sumary; did you mean --summary"),
    (["import", "x.yaml", "--bugdet-mib", "9"], "no such argument: --bugdet-mib; did you mean --budget-mib?"),
]


@pytest.mark.parametrize("words, says", ELSEWHERE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_an_argument_that_is_none_stops_every_command_with_what_it_may_be(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


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
