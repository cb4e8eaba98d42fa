"""Paths of secrets and credentials in texts, by patterns of ours.

Rule: a literal is looked for first, in lower case, which is fast; a pattern is then tried at that place only. A mere
name (``password``) is nothing: a value with a digit or a sign must follow it. A long text is looked at window by
window: no step takes long, so other threads come in between, and a letter outside ASCII does not make all of it slow.
"""

import re
from collections.abc import Iterator

_NAMED_PATHS = (
    ".ssh/", ".ssh\\", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "authorized_keys", ".gnupg", ".aws/credentials",
    ".aws/config", ".aws\\credentials", ".kube/config", ".docker/config.json", "application_default_credentials",
    ".netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".my.cnf", ".vault-token", "/etc/shadow",
    "/etc/gshadow", "/etc/sudoers", "/etc/master.passwd", "/etc/ssl/private", "/root/.", "wallet.dat", "cookies.sqlite",
    "logins.json", "key4.db", "login data", ".password-store", "ntuser.dat",
)  # fmt: skip
_ENV_FILE = re.compile(r"(?<![\w)\]}])\.env(?:\.(?!example|sample|template|dist)[\w-]+)?(?![\w.-])", re.IGNORECASE)
_KEY_FILE = re.compile(r"(?<=[\w-])\.(?:pem|p12|pfx|kdbx|keystore|jks|ppk|ovpn)\b", re.IGNORECASE)
_PATHS = (
    (".env", _ENV_FILE),
    *((ending, _KEY_FILE) for ending in (".pem", ".p12", ".pfx", ".kdbx", ".keystore", ".jks", ".ppk", ".ovpn")),
)

_NAMES = (
    "password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "apikey", "api_key",
    "api-key", "api key", "accesskey", "access_key", "access-key", "authkey", "auth_key", "auth-key", "privatekey",
    "private_key", "private-key",
)  # fmt: skip
_VALUE = re.compile(
    r"""
    \w{0,16}+["'`\]]{0,2}
    (?:=|:\s{0,3}|\s{0,3}(?:=|:=|=>)\s{0,3}(?=["'`])|\s{1,3}is:?\s{1,3})["'`]?
    (?=[^\s"'`(){}<>$]{0,128}[0-9!@\#%^&*])         # not only letters
    (?![^\s"'`]{0,128}(?:\*{3}|\.\.\.|xxxx))        # not blacked out
    (?![\d.,:]{1,32}(?:[\s"'`)}\]]|$))              # not a number: max_tokens=100000
    [^\s"'`(){}<>$]{6,128}+(?!\()                   # not a call: token=next_token2()
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IN_URL = re.compile(r"://[^\s/:@\"'<>${]{1,64}:[^\s/@\"'<>${]{3,128}@")
_HEADER = re.compile(
    r"authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token)\s{1,3}[^\s\"'<>${]{8}", re.IGNORECASE
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY", re.IGNORECASE)
_AWS_KEY = re.compile(r"(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)", re.IGNORECASE)
_CREDENTIALS = (
    ("://", _IN_URL),
    ("authorization", _HEADER),
    ("-----begin", _PRIVATE_KEY),
    ("akia", _AWS_KEY),
    ("asia", _AWS_KEY),
)


WINDOW = 32 * 1024
"""Characters."""
_OVERLAP = 40
"""Characters of the next window that are looked at too: no literal is longer."""
_DOTTED_I = "\u0130"
"""The one letter that becomes two when it is lowered."""


def names_a_path(text: str) -> bool:
    """Does the text name a file that holds secrets?"""
    text = _of_one_length(text)
    return any(
        any(path in lower for path in _NAMED_PATHS) or _found(_PATHS, text, lower, begin)
        for begin, lower in _windows(text)
    )


def holds_a_credential(text: str) -> bool:
    """Does the text hold a password, key or token with its name, or in an address?"""
    text = _of_one_length(text)
    return any(
        _found(_CREDENTIALS, text, lower, begin)
        or any(_VALUE.match(text, begin + at + len(name)) for name in _NAMES for at in _places(name, lower))
        for begin, lower in _windows(text)
    )


def _of_one_length(text: str) -> str:
    """The text, as long as it is in lower case."""
    return text.replace(_DOTTED_I, _DOTTED_I.lower())


def _windows(text: str) -> Iterator[tuple[int, str]]:
    """Where each begins, and what is in it in lower case."""
    for begin in range(0, len(text), WINDOW):
        yield begin, text[begin : begin + WINDOW + _OVERLAP].lower()


def _found(rules: tuple[tuple[str, re.Pattern[str]], ...], text: str, lower: str, begin: int) -> bool:
    return any(pattern.match(text, begin + at) for hint, pattern in rules for at in _places(hint, lower))


def _places(hint: str, lower: str) -> Iterator[int]:
    """Where a literal is in a window."""
    at = lower.find(hint)
    while at >= 0:
        yield at
        at = lower.find(hint, at + len(hint))
