"""Quantisations: as names and files have them, and as requests ask for them."""

import pytest

from broker.core.errors import BadArgumentError
from broker.routing.quantisation import is_one_of, quantisation_header, quantisation_in


@pytest.mark.parametrize(
    "name, found",
    [
        ("big-q8", "q8"),
        ("gemma-3-270m-it-Q4_K_M.gguf", "q4_k_m"),
        ("Qwen3-8B-UD-Q4_K_XL.gguf", "q4_k_xl"),
        ("Llama-3.1-8B-IQ3_XXS", "iq3_xxs"),
        ("model-BF16-00001-of-00002.gguf", "bf16"),
        ("gpt-oss-20b-mxfp4", "mxfp4"),
        ("Meta-Llama-8B-AWQ", "awq"),
        ("q8chat", ""),
        ("mini", ""),
    ],
)
def test_a_quantisation_is_read_from_a_name_or_a_file(name, found):
    assert quantisation_in(name) == found


def test_the_first_that_says_something_counts():
    assert quantisation_in("", "x-Q5_K_S.gguf", "x-q5") == "q5_k_s"


@pytest.mark.parametrize(
    "has, asked, fits",
    [
        ("q4_k_m", ("q4",), True),
        ("q4_k_m", ("Q4_K_M",), True),
        ("q4_k_m", ("q4-k-m",), True),
        ("q4_k_m", ("q4_k_s",), False),
        ("q4_k_m", ("q5", "q4"), True),
        ("q8", ("q8_0",), True),
        ("q8_0", ("q4",), False),
        ("q4_k_m", ("int4",), True),
        ("iq4_xs", ("int4",), True),
        ("q8_0", ("int8",), True),
        ("f16", ("fp16",), True),
        ("bf16", ("fp16",), False),
        ("mxfp4", ("fp4",), True),
        ("", ("q4",), True),
        ("q40", ("q4",), False),
    ],
)
def test_what_is_asked_for_is_compared_word_by_word(has, asked, fits):
    assert is_one_of(has, asked) is fits


def test_the_header_is_words_with_commas():
    assert quantisation_header(None) == ()
    assert quantisation_header(b"Q4_K_M, q8_0") == ("q4_k_m", "q8_0")
    for bad in (b"", b",", b"q4;q8", b"q" * 40, b"q4," * 20 + b"q4", b"\xff"):
        with pytest.raises(BadArgumentError, match="x-hotseat-quantisation"):
            quantisation_header(bad)
