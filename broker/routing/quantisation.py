"""Which quantisation the weights of a model are in, and whether it is one that a request would have.

Rule: only what is known is held against a model. A short word stands for all that it is the beginning of: ``q4`` for
``q4_k_m``; and the words of OpenRouter for llama.cpp's of as many bits.
"""

import re
from collections.abc import Iterable

from broker.core.errors import BadArgumentError

MOST = 16
"""Most words that one header may have."""
_KNOWN = re.compile(
    r"(?<![a-z0-9])(?:i?q[1-8](?:_[0-9](?:_[0-9]){0,2}|_k(?:_(?:xxs|xs|xl|xxl|s|m|l))?|_(?:xxs|xs|xl|nl|s|m|l))?|tq[12]_0"
    r"|bf16|fp?16|fp?32|fp8|fp6|fp4|nvfp4|mxfp[468]|int[48]|w[48]a(?:4|8|16)|[2-8]bit|awq|gptq|exl[23])(?![a-z0-9])"
)
_WORD = re.compile(r"[a-z0-9][a-z0-9_.]{0,31}")
_SAME = {
    "int4": ("q4", "iq4", "4bit", "w4a16"), "4bit": ("q4", "iq4", "int4", "w4a16"),
    "int8": ("q8", "8bit", "w8a8", "w8a16"), "8bit": ("q8", "int8", "w8a8", "w8a16"),
    "fp4": ("nvfp4", "mxfp4"), "fp16": ("f16",), "f16": ("fp16",), "fp32": ("f32",), "f32": ("fp32",),
}  # fmt: skip


def quantisation_in(*texts: str) -> str:
    """Find the last word for a quantisation in the first of some names and paths that has any; empty: none has."""
    for text in texts:
        if found := _KNOWN.findall(_plain(text)):
            return str(found[-1])
    return ""


def quantisation_header(value: bytes | None) -> tuple[str, ...]:
    """Read ``x-hotseat-quantisation``: words with commas between them, any of which will do.

    Raises:
        BadArgumentError: It is something else.
    """
    if value is None:
        return ()
    words = [_plain(word.strip()) for word in value.decode("latin-1").split(",")]
    if len(words) > MOST or not all(_WORD.fullmatch(word) for word in words):
        raise BadArgumentError("x-hotseat-quantisation must be words such as q4_k_m, with commas between them")
    return tuple(words)


def is_one_of(has: str, asked: Iterable[str]) -> bool:
    """Tell whether a quantisation is one that was asked for. One that is not known may be."""
    plain = _plain(has)
    return not plain or any(_agree(plain, word) for one in asked for word in _meant(_plain(one.strip())))


def _meant(word: str) -> tuple[str, ...]:
    return (word, *_SAME.get(word, ()))


def _agree(one: str, other: str) -> bool:
    """Tell whether one of them is the other, or its beginning."""
    return one == other or one.startswith(f"{other}_") or other.startswith(f"{one}_")


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
