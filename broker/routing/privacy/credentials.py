"""Passwords, keys and tokens in texts, as people, programs and files write them down.

Rule: a mere name (``password``) is nothing here: a value must stand with it, by a sign, in a table,
behind a flag, in
an address. A value has a digit or a sign, or stands where nothing but a value can.
"""

import re

from broker.routing.text.literals import Check, Finder, LiteralRules, matching, of_one_length
from broker.routing.text.work import ATTEMPT, Work

_NAMES = (
    "password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "apikey", "api_key",
    "api-key", "api key", "accesskey", "access_key", "access-key", "access key", "authkey", "auth_key", "auth-key",
    "privatekey", "private_key", "private-key", "private key", "accountkey", "account_key", "account key",
    "signingkey",
    "signing_key", "signing key", "encryptionkey", "encryption_key", "encryption key", "presharedkey",
    "preshared_key",
    "passwort", "kennwort", "contraseña", "contrasena", "mot de passe", "senha", "wachtwoord", "hasło", "lösenord",
    "пароль", "密码", "密碼", "パスワード", "비밀번호",
)  # fmt: skip
_NOT_A_VALUE = r"""
    (?![^\s"'`]{0,128}(?:\*{3}|\.\.\.|xxxx))        # not blacked out
    (?![\d.,:]{1,32}(?:[\s"'`)}\]|;,]|$))           # not a number: max_tokens=100000
"""
_VALUE = rf"""
    (?=[^\s"'`(){{}}<>$]{{0,128}}[0-9!@\#%^&*])     # not only letters
    {_NOT_A_VALUE}
    [^\s"'`(){{}}<>$]{{6,128}}+(?!\()               # not a call: token=next_token2()
"""
_BARE = rf"""
    (?=[^\s"'`(){{}}<>$]{{0,128}}[0-9!@\#%^&*])
    (?=[^\s]{{0,128}}[A-Za-z])
    {_NOT_A_VALUE}
    (?![A-Za-z_]\w{{0,64}}(?:\.[A-Za-z_]|\[))       # not a name of a program's: settings.key2, tokens[0]
    (?!\w{{0,64}}(?:token|password|passwd|secret|key|sha|md|utf|base|int|float|str|bytes|aes|rsa|hmac|http|ipv|arg|tmp
       |val|var|line|row|col|part|item|word|data|text)s?_?\d{{1,4}}\b)
    [^\s"'`(){{}}<>$|]{{6,128}}+(?!\()
    (?![ \t]{{0,4}}(?:[-+*/%?<>=.&\[(]|(?:if|or|and|in|else|for|is|as|not)\b))
"""
_WORDS_FOR_ONE = (
    r"(?:your|my|the|some|an?)[_-]|(?:string|str|text|password|passwd|secret|token|required|optional|example|changeme|default|hidden"
    r"|redacted|placeholder|type|value|number|integer|boolean|object|array|null|none|true|false|enter|invalid|incorrect|missing"
    r"|new|old|current|confirm|forgot|reset)\b|[*x.]{3}|(?-i:[A-Z_]{2,64})[\"'<]"
)
"""Where a value should stand: what kind of value, or that there is none."""
_NAMED = re.compile(
    rf"""
    \w{{0,16}}+(?:[ ](?:key|value|token|id|hash)\b)?["'`*\]]{{0,4}}
    (?:
        (?:=|:\s{{0,3}}|\s{{0,3}}(?:=|:=|=>|:|,(?=\s{{0,3}}["'`][^"'`*]{{0,128}}\d))\s{{0,3}}(?=["'`])
           |\s{{1,3}}(?:is|was|are|ist|lautet|est|es|è|é|är):?\s{{1,3}})
        ["'`]?{_VALUE}
    |   [ \t]{{0,8}}(?::=|=>|=|:)[ \t]{{0,8}}{_BARE}
    |   [ \t]{{0,16}}\|[ \t]{{0,16}}["'`*]{{0,2}}{_VALUE}           # a table's next cell
    |   (?:\t[ \t]{{0,16}}|[ ]{{2,24}}){_BARE}                      # … of one with blanks only
    |   :[ \t]{{0,3}}(?:[|>][+-]?)?\r?\n[ \t]{{1,16}}["'`]?{_VALUE} # on the next line
    |   >\s{{0,3}}(?:<[^<>]{{1,32}}>\s{{0,3}})?{_VALUE}<            # between tags
    |   ["']?,?\s{{1,16}}["']?(?:value|val)["']?\s{{0,3}}[:=]\s{{0,3}}["'`]?{_VALUE}
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)
_SHORT = re.compile(
    rf"""
    (?<![A-Za-z])(?:pass|pw|pin)
    (?:[:=]\s{{0,3}}["'`]?(?:{_VALUE}|\d{{4,12}}\b)|[ \t]{{0,3}}[:=][ \t]{{0,3}}(?:["'`]{_VALUE}|{_BARE}|\d{{4,12}}\b))
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN = re.compile(
    rf"""
    (?:password|passwd|passphrase|passwort|kennwort|secret[_-]?key|api[_-]?key|client[_-]?secret|private[_-]?key|psk)
    ["'`\]]{{0,2}}\s{{0,3}}(?:[:=]|=>|:=)\s{{0,3}}
    (?:(["'])(?!{_WORDS_FOR_ONE})[^"'\s<>${{}}()]{{6,128}}\1|\d{{4,32}}(?![\w.]))
    |(?:password|passwd|passphrase|secret[_-]?key|api[_-]?key)>\s{{0,3}}(?!{_WORDS_FOR_ONE})[^\s<>${{}}]{{4,128}}\s{{0,3}}</
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BEARER = re.compile(r"bearer\s{1,3}(?=[\w.~+/=-]{0,256}\d)[\w.~+/=-]{16}", re.IGNORECASE)
_IN_URL = re.compile(r"://[^\s/:@\"'<>${]{0,64}:[^\s/@\"'<>${]{1,128}@")
_HEADER = re.compile(
    r"authorization[\"']?\s{0,3}[:=,]\s{0,3}[\"']?(?:bearer|basic|token|apikey|digest)\s{1,3}[^\s\"'<>${]{8}",
    re.IGNORECASE,
)
_COOKIE = re.compile(r"cookie[\"']?\s{0,3}:\s{0,3}[\"']?[\w.-]{1,64}=[^\s;\"'<>${]{16}", re.IGNORECASE)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY", re.IGNORECASE)
_AWS_KEY = re.compile(r"(?<!\w)(?:AKIA|ASIA)[0-9A-Z]{16}(?!\w)", re.IGNORECASE)
_LITERAL = r"(?![-$<{%\[(\"'`]|\.\.\.|xxx|\*{3}|[A-Z_]{2,64}(?:[\s\"'\])]|$)|\d{1,16}(?:\s|$))"
"""What stands where nothing but a value can: not another flag, a variable, or a word for one."""
_PROSE = (
    r"(?!(?:to|for|is|as|and|or|the|an?|on|in|of|if|flags?|options?|arguments?|parameters?|from|with|when|will|must|can"
    r"|has|was|not|it|you|your|instead|may|should|via|by|are|be|at|that|this|then|which)\b)"
)
_FLAG = re.compile(
    rf"-(?:password|passwd|passphrase|(?<![A-Za-z0-9]-)pass|pwd|secret|client-secret|secret-key)"
    rf"(?:[ \t]{{1,4}}|=)[\"'`]?{_LITERAL}{_PROSE}[^\s\"'`]"
    rf"|-(?:token|api-?key|access-?key|auth|key)(?:[ \t]{{1,4}}|=)[\"'`]?{_LITERAL}"
    r"(?=[^\s\"'`]{0,128}[0-9])[^\s\"'`/.]{8}"
)
_NETRC = re.compile(
    r"(?:machine\s{1,8}\S{1,255}\s{1,8})?(?:login\s{1,8}\S{1,128}\s{1,8})?(?:account\s{1,8}\S{1,128}\s{1,8})?"
    r"password\s{1,8}[^\s<$]",
    re.IGNORECASE,
)
_USER = re.compile(r"-(?:u|-user|-proxy-user)[ =]{1,4}[\"']?(?!\d+:\d)[^\s:\"'$<{/]{1,64}:(?!//)[^\s:\"'$<{]{3}")
_SSHPASS = re.compile(r"sshpass\s{1,4}-p\s{0,4}[\"']?[^\s\"'$<]{2}", re.IGNORECASE)
_DATABASE = re.compile(
    r"(?:mysql|mariadb)[\w-]{0,16}(?:\s{1,4}[^\s|;&]{1,128}){0,8}?\s{1,4}-p[^\s\"'$<{\-]{3}", re.IGNORECASE
)
_LOGIN = re.compile(r"login(?:\s{1,4}[^\s|;&]{1,128}){0,6}?\s{1,4}-p\s{1,4}[\"']?[^\s\"'$<{\-]{3}", re.IGNORECASE)
_OPENSSL = re.compile(r"(?<=[\s\"'=])pass:[^\s\"'$<{]{3}")
_CONNECTION = re.compile(
    r"""
    (?:user(?:[ _]?(?:id|name))?|uid|login)\s{0,3}=\s{0,3}["']?[^;\s&"',]{1,64}["']?[;\s&]{1,4}
    (?:[\w ]{1,32}=[^;\s&,]{0,128}[;\s&]{1,4}){0,6}
    (?:password|passwd|pwd|pass)\s{0,3}=\s{0,3}["']?(?![$<{%*]|\.\.\.)[^;\s&"',]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_CONNECTION_END = re.compile(
    r"(?:password|pwd)\s{0,3}=\s{0,3}(?![$<{%*]|\.\.\.)[^;\s\"']{2,128};\s{0,3}"
    r"(?:user|uid|server|host|data|initial|encrypt|trust)",
    re.IGNORECASE,
)
_HASHED = re.compile(r":\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|argon2i?d?|scrypt)\$[^\s:]{8}")
_BCRYPT = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{22}")
_JWK = re.compile(r"\"d\"\s{0,3}:\s{0,3}\"[\w-]{32}")
_SAS = re.compile(r"(?<=[?&;])sig=[\w%/+]{20}")
_ITSELF = re.compile("", re.IGNORECASE)
"""The literal says it all."""

_RULES: LiteralRules = (
    ("://", _IN_URL), ("authorization", _HEADER), ("cookie", _COOKIE), ("-----begin", _PRIVATE_KEY), ("akia",
    _AWS_KEY),
    ("asia", _AWS_KEY), ("machine", _NETRC), ("login", _NETRC), ("-u ", _USER), ("--user", _USER),
    ("passw", _PLAIN), ("passphrase", _PLAIN), ("kennwort", _PLAIN), ("secret", _PLAIN), ("api", _PLAIN),
    ("client", _PLAIN), ("private", _PLAIN), ("psk", _PLAIN), ("bearer", _BEARER), ("-proxy-user", _USER),
    ("sshpass", _SSHPASS), ("mysql", _DATABASE), ("mariadb", _DATABASE), ("login ",
    _LOGIN), ("pass:", _OPENSSL),
    ("user", _CONNECTION), ("uid", _CONNECTION), ("login", _CONNECTION), ("password", _CONNECTION_END),
    ("pwd", _CONNECTION_END), (":$", _HASHED), ("$2", _BCRYPT), ('"d"', _JWK), ("sig=", _SAS),
    ("putty-user-key-file", _ITSELF), ("age-secret-key-1", _ITSELF), ("begin ssh2 encrypted private", _ITSELF),
    ("pass", _SHORT), ("pw", _SHORT), ("pin", _SHORT), ("-pass", _FLAG), ("-auth", _FLAG), ("-key", _FLAG),
)  # fmt: skip

_HEAD_ENDS = re.compile(r"\w{0,16}[\"'`*]{0,2}[ \t]{0,16}(?:[|,;\t\r\n]|[ ]{2})")
_SPLITS = {"|": re.compile(r"\|"), "\t": re.compile(r"\t"), ";": re.compile(";"), ",": re.compile(","),
           "  ": re.compile(r" {2,}|\t")}  # fmt: skip
_RULE = re.compile(r"[-|:+= \t]{3,}")
_CELL = re.compile(rf"(?:{_VALUE})", re.VERBOSE)
LINE = 512
"""How many characters of a table's line are looked at."""
TABLE = 24
"""Tries of a pattern that looking at a table costs as much as."""
ROWS = 6
"""Lines of a table that are looked at, its head included."""


def holds_a_credential(text: str, work: Work) -> bool:
    """Does the text hold a password, key or token with its name, or in an address?

    Raises:
        TooCostlyError
    """
    return _FINDER.find(of_one_length(text), work) is not None


def _stands_at(name: str) -> Check:
    """Is a name followed by its value, or the name of a flag, or the head of a column?"""

    def stands(text: str, at: int, work: Work) -> bool:
        after = at + len(name)
        if _NAMED.match(text, after) or (text[at - 1 : at] == "-" and _FLAG.match(text, at - 1)):
            return True
        return _HEAD_ENDS.match(text, after) is not None and _is_column(text, at, work)

    return stands


def _is_column(text: str, at: int, work: Work) -> bool:
    """Tell whether a line below has a value in the column whose head this could be."""
    work.spend(TABLE * ATTEMPT)
    begin = max(text.rfind("\n", max(0, at - LINE), at) + 1, at - LINE, 0)
    head, *rows = text[begin : begin + LINE * ROWS].splitlines()[:ROWS]
    for sign, split in _SPLITS.items():
        if sign in head.strip():
            index, width = len(split.split(head[: at - begin])) - 1, len(split.split(head))
            return any(_has_value(split.split(row), index, width) for row in rows)
    return False


def _has_value(cells: list[str], index: int, width: int) -> bool:
    if len(cells) != width or _RULE.fullmatch("|".join(cells)):
        return False
    return _CELL.fullmatch(cells[index].strip(" \t\"'`*")) is not None


_FINDER = Finder(
    [
        *((True, literal, check) for literal, check in matching(_RULES)),
        *((True, name, _stands_at(name)) for name in _NAMES),
    ]
)
