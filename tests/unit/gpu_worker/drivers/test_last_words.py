"""A server's last words: the telling ones, bounded, and nothing secret in them."""

import pytest

from gpu_worker.drivers.last_words import LIMIT, last_words, secrets_of

NOISE = b"llama_model_loader: - kv  17: tokenizer.ggml.tokens arr[str,151936]\n" * 300
KEY = "generation-key-1234567890"


def words_of(log, *secrets, whole=True):
    return last_words(log, secrets, whole=whole)


def test_the_telling_lines_are_shown_and_not_the_chatter_around_them():
    log = (
        b"build: 1234\n"
        + NOISE
        + b"error: invalid argument: --flash-atn\nhint: see --help\nsystem info: n_threads = 8\n"
    )
    assert words_of(log) == "error: invalid argument: --flash-atn | system info: n_threads = 8"
    assert words_of(b"one\ntwo\n\nthree\nfour\nfive\n") == "two | three | four | five"
    assert words_of(b"") == ""


def test_they_are_bounded_and_printable():
    log = b"\x1b[31merror:\x1b[0m \x00\x07bad \xff\xfe thing\r\n" + b"error: " + b"x" * 5000
    said = words_of(log)
    assert len(said) <= LIMIT
    assert said.isprintable()
    assert words_of(b"\x1b[31merror:\x1b[0m red\n") == "error: red"


@pytest.mark.parametrize(
    "line",
    [
        f"error: bad key {KEY}",
        "error: HF_TOKEN=hf_abcdefghijklmnopqrst is not allowed",
        "error: 401 for Authorization: Bearer abc.def.ghi-jkl",
        "error: cannot clone https://anna:hunter22@git.example/x",
        'error: {"api_key": "very-private-value"}',
        "error: password is correcthorsebattery",
        "error: unknown argument sk-proj-abcdefghijklmnop1234",
        "error: --hub-secret swordfish-7 refused",
        "error: env says plain-looking-value",
    ],
)
def test_no_secret_is_in_them(line):
    secrets = secrets_of(
        ("serve", "--hub-secret", "swordfish-7", "--api-key-file", "/run/key", "--port", "{port}"),
        {"MY_ACCESS_TOKEN": "plain-looking-value", "LANG": "C.UTF-8"},
        KEY,
    )
    said = words_of(line.encode(), *secrets)
    assert "[secret]" in said
    for secret in (
        KEY,
        "hf_abc",
        "abc.def",
        "hunter22",
        "very-private",
        "correcthorse",
        "sk-proj",
        "swordfish",
        "plain-",
    ):
        assert secret not in said


def test_what_is_no_secret_is_not_hidden():
    secrets = secrets_of(
        ("serve", "--api-key-file", "/run/key"), {"LANG": "C.UTF-8", "TOKENIZERS_PARALLELISM": "false"}, KEY
    )
    assert secrets == {KEY}
    said = "error: failed to open /run/key and 4096 tokens of context, false"
    assert words_of(said.encode(), *secrets) == said


def test_a_secret_that_the_cut_left_half_of_is_not_shown():
    assert KEY[10:] not in words_of(f"{KEY[10:]} was refused\nerror: no\n".encode(), KEY, whole=False)
    assert KEY[10:] not in words_of(f"{KEY[10:]} was refused: error".encode() + b"z" * 100, KEY, whole=False)
