"""What names may look like, wherever one is written or asked for."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$"
"""Of models and slots: they become part of the store's keys, so no space, brace or control character."""
POOL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_OUTSIDE, _WITHIN = r"\s{}\x00-\x1f\x7f-\x9f\u2028\u2029", r"{}\x00-\x1f\x7f-\x9f\u2028\u2029"
ALIAS_PATTERN = rf"^[^{_OUTSIDE}*?](?:[^{_WITHIN}*?]{{0,126}}[^{_OUTSIDE}*?])?$"
"""Of aliases, which are in no key: blanks within, and what other programs' names have."""
FORM_PATTERN = rf"^[^{_OUTSIDE}](?:[^{_WITHIN}]{{0,126}}[^{_OUTSIDE}])?$"
"""Of aliases that may stand for many names, by ``*`` and ``?``."""
WORDS = {
    NAME_PATTERN: "must be of letters, digits and ._:/@-, at most 128, the first a letter or a digit",
    POOL_PATTERN: "must be of letters, digits and ._-, at most 64, the first a letter or a digit",
    ALIAS_PATTERN: "must be at most 128 characters, without any of {}*? and control characters, no blank at its ends",
    FORM_PATTERN: "must be at most 128 characters without braces and control characters, no blank at its ends",
    r"^[0-9a-f]{64}$": "must be 64 hexadecimal digits in lower case",
}
"""What a pattern asks for, said to people."""
