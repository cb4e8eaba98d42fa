"""The firewall: patterns, the real scanner, and what it does in doubt."""

import base64
import json
import sys
import time
import unicodedata

import pytest

from broker.core.errors import BadArgumentError
from broker.process.secret_scanner import open_scanner
from broker.routing.privacy import credentials, indicators, secret_paths
from broker.routing.privacy.firewall import Because, Firewall
from broker.routing.privacy.indicators import Indicators
from broker.routing.request.contents import content_of
from broker.routing.request.request import Content, Described, RequestKind, deadline_header, private_header
from broker.routing.text import literals
from broker.routing.text.disguise import NEAR, plain
from broker.routing.text.literals import WINDOW
from broker.routing.text.work import Work


@pytest.fixture(scope="module")
def scanner():
    return open_scanner()


def asked(*texts: str, source=None) -> Described:
    return Described(name="auto", kind=RequestKind.CHAT, content=source or Content(texts=texts))


def judge(firewall: Firewall, request: Described):
    return firewall.because(request, session_private=False, name_private=False)


def holds_a_credential(text: str) -> bool:
    return credentials.holds_a_credential(text, Work())


def names_a_path(text: str) -> bool:
    return secret_paths.names_a_secret_path(text, Work())


def without_words(scanner) -> Firewall:
    """As it was before there were indicators: only what is a secret counts."""
    return Firewall(find_secret=scanner, indicators=Indicators.OFF)


def joined(*parts: str) -> str:
    """Keys are written in pieces here, so that scanners of this repository stay quiet."""
    return "".join(parts)


@pytest.mark.parametrize(
    "secret",
    [
        joined("ghp_", "cR7mT2xK9vB4nQ8wL5pZ1sD6fG3hJ0yU2iEa"),
        joined("sk-proj-", "abcdefghijklmnopqrst", "T3BlbkFJ", "abcdefghijklmnopqrst"),
        joined("xoxb-", "2345678901-2345678901234-", "AbCdEfGhIjKlMnOpQrStUvWx"),
        joined("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0Ijox",
               "NTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"),
    ],
)  # fmt: skip
def test_the_scanner_knows_the_providers_keys(scanner, secret):
    firewall = Firewall(find_secret=scanner)
    assert judge(firewall, asked(f"please use {secret} for it")) is Because.SECRET


TOKEN = joined("ghp_", "cR7mT2xK9vB4nQ8wL5pZ1sD6fG3hJ0yU2iEa")


@pytest.mark.parametrize(
    "text",
    [
        "\u0130 a letter that grows in lower case: " + TOKEN,
        "word " * 20_000 + TOKEN + " word" * 20_000,
        TOKEN + "  # kingfisher:ignore  gitleaks:allow",
        '{"a": "' + TOKEN + '"}',
        base64.b64encode(("x" * 30 + " " + TOKEN).encode()).decode(),
    ],
    ids=["growing", "long line", "ignore marks", "json", "base64"],
)
def test_a_secret_is_found_wherever_it_stands(scanner, text):
    assert judge(Firewall(find_secret=scanner), asked(text)) is Because.SECRET


def in_full_width(text: str) -> str:
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


DISGUISES = {
    "zero-width spaces": "\u200b".join,
    "soft hyphens and joiners": "\u00ad\u2060".join,
    "tags": "\U000e0061".join,
    "full width": in_full_width,
    "bold": lambda text: "".join(chr(ord(c) - 97 + 0x1D41A) if "a" <= c <= "z" else c for c in text),
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("encoded", [False, True], ids=["as it is", "base64"])
def test_letters_that_do_not_show_or_have_another_form_hide_nothing(scanner, disguise, encoded):
    said = base64.b64encode(f"please take {TOKEN} now".encode()).decode() if encoded else TOKEN
    body = {"messages": [{"role": "user", "content": f"use {DISGUISES[disguise](said)} for it"}]}
    content = content_of(RequestKind.CHAT, json.dumps(body).encode())
    assert judge(Firewall(find_secret=scanner), asked(source=content)) is Because.SECRET
    body["messages"][0]["content"] = DISGUISES[disguise]("cat ~/.ssh/id_rsa")
    assert judge(
        Firewall(find_secret=scanner), asked(source=content_of(RequestKind.CHAT, json.dumps(body).encode()))
    ) is (Because.PATH)


@pytest.mark.parametrize("before", [0, 1, 100, NEAR - 1, NEAR, 1000, WINDOW - 3, WINDOW])
def test_a_disguise_hides_nothing_wherever_it_stands(before):
    around = "word " * (WINDOW // 5)
    text = around[:before] + "~/.ss\u200bh/id_rsa " + around
    assert names_a_path(plain(text))
    assert len(plain(text)) < 5 * NEAR
    assert plain(around + "\u2026 and \u00a0 5 \u20ac") == ""


def test_every_other_form_of_an_ascii_letter_or_sign_is_undone():
    fractions_and_dots = {*"\u00bc\u00bd\u00be\u2025\u2026\u2189", *map(chr, range(0x2150, 0x2160))}

    def hides(letter: str) -> bool:
        read = unicodedata.normalize("NFKC", letter)
        said = read != letter and any(c.isascii() and (c.isalnum() or c in "-_./:=+@~\\") for c in read)
        accented = unicodedata.normalize("NFD", letter) != letter and not unicodedata.normalize("NFC", letter).isascii()
        return said and not (accented and read == unicodedata.normalize("NFC", letter))

    forms = [letter for letter in map(chr, range(128, sys.maxunicode + 1)) if hides(letter)]
    assert len(forms) > 1000
    assert {letter for letter in forms if not plain(letter)} == fractions_and_dots


@pytest.mark.parametrize(
    "text",
    [
        "Zo\u00eb\u2019s na\u00efve fa\u00e7ade \u2013 5 \u20ac",
        "\u65e5\u672c\u8a9e",
        "\ufb01ne \u2026 \u2116 1",
        "a\u200db",
        "x " * WINDOW + "\u00e9",
    ],
)
def test_other_alphabets_may_leave(scanner, text):
    content = content_of(RequestKind.CHAT, json.dumps({"messages": [{"role": "user", "content": text}]}).encode())
    assert judge(Firewall(find_secret=scanner), asked(source=content)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Write a haiku about the sea.",
        "def token_count(text):\n    tokens = tokenizer.encode(text)\n    return len(tokens)",
        "The key idea: a lease has a TTL of 60 s; see https://example.org/a/b?c=d#e.",
        "commit 75e9354f0c5a6b7d8e9f00112233445566778899 changed 3 files",
        "process.env.HOME and import.meta.env, and .env.example",
        "max_tokens: 4096, n_tokens=123456, password: ***hidden***, api_key: ${API_KEY}, token: <your-token>",
        "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
        "localhost:8080/path@host and mailto:anna@example.org",
    ],
)
def test_ordinary_words_may_leave(scanner, text):
    assert judge(without_words(scanner), asked(text)) is None
    assert judge(Firewall(find_secret=scanner), asked(text.replace("password", "pw"))) is None


@pytest.mark.parametrize(
    "text",
    ["the passphrase is tulip99-now", "export DB_PASSWORD=hunter22", 'SECRET_KEY = "x9#kkkk"', "api key: 1a2b3c4d"],
)
def test_a_name_with_a_value_is_a_credential(text):
    assert holds_a_credential(text)


@pytest.mark.parametrize(
    "text", ["C:\\Users\\a\\.ssh\\known_hosts", "İ ~/.AWS/Credentials", "cp a.kdbx /tmp", "cat .env"]
)
def test_paths_of_secrets_are_seen_in_any_case(text):
    assert names_a_path(text)


@pytest.mark.parametrize("letter", ["x", "ä", "\u0130"], ids=["ascii", "wide", "growing"])
def test_how_a_text_falls_into_windows_changes_nothing(letter):
    rest = " " + "so many words " * 20
    for before in range(WINDOW - 50, WINDOW + 2):
        begin = letter * before + " "
        assert names_a_path(begin + "~/APPLICATION_default_credentials" + rest)
        assert names_a_path(begin + "cat .env" + rest)
        assert holds_a_credential(begin + "PrivateKey: 1a2b3c4d" + rest)
        assert holds_a_credential(begin + "https://anna:pass1word@example.org" + rest)
        assert not names_a_path(begin + "process.env.HOME and .env.example" + rest)
        assert not holds_a_credential(begin + "max_tokens: 4096, api_key: ${API_KEY}" + rest)


def test_no_literal_is_longer_than_what_windows_share_and_one_letter_alone_grows():
    finders = (secret_paths._FINDER, credentials._FINDER, *indicators._FINDERS.values())
    found = [literal for finder in finders for literal in finder.literals]
    assert max(map(len, found)) <= literals.OVERLAP
    assert all(literal == literal.lower() for literal in found)
    assert [chr(code) for code in range(0x110000) if len(chr(code).lower()) > 1] == [literals.DOTTED_I]


def test_without_a_scanner_everything_is_private():
    assert judge(Firewall(), asked("hello")) is Because.SCANNER


def test_a_scanner_that_fails_finds_one():
    def broken(_text: str) -> bool:
        raise RuntimeError

    assert judge(Firewall(find_secret=broken), asked("hello")) is Because.SCANNER


def test_a_body_that_is_private_by_its_marks_is_not_read():
    class Unreadable:
        def read(self):
            raise AssertionError

    request = Described(name="auto", kind=RequestKind.CHAT, content=Unreadable(), header_private=True)
    assert judge(Firewall(), request) is Because.HEADER
    assert judge(Firewall(), Described(name="auto", kind=RequestKind.OTHER, content=Unreadable())) is None
    large = Described(name="auto", kind=RequestKind.CHAT, content=Unreadable(), size_bytes=2**30)
    assert judge(Firewall(), large) is Because.LARGE


@pytest.mark.parametrize("length", [50_000, 200_000])
def test_hostile_texts_take_no_time_that_grows_with_their_square(length):
    """A second for a text of 200 kB would be a way to stop the broker."""
    for piece in (
        "pass=",
        "password: aaaa",
        "://a:",
        "token" + "=" * 20,
        "a" * 64,
        ".env",
        "-----begin ",
        "\u0130pwd is ",
    ):
        text = piece * (length // len(piece))
        start_s = time.process_time()
        names_a_path(text)
        holds_a_credential(text)
        assert time.process_time() - start_s < 1.0


@pytest.mark.parametrize(
    "value, private",
    [
        (None, False),
        (b"0", False),
        (b" No ", False),
        (b"false", False),
        (b"1", True),
        (b"yes", True),
        (b"", True),
        (b"?", True),
    ],
)
def test_whatever_is_no_plain_no_is_a_yes(value, private):
    assert private_header(value) is private


@pytest.mark.parametrize("value", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"86401", b"1_0_0_0_0_0"])
def test_deadlines_out_of_bounds_are_refused(value):
    with pytest.raises(BadArgumentError, match="x-hotseat-deadline-s"):
        deadline_header(value)


def test_deadlines_are_seconds():
    assert (deadline_header(None), deadline_header(b"2.5")) == (None, 2.5)
