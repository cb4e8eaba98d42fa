"""Tokens are counted rather too high. The real numbers are Gemma 3's, taken once."""

import pytest

from broker.routing.text.tokens import text_tokens

GERMAN = (
    "Die Maschine wartet, bis das Modell geladen ist, und gibt danach die Antwort zurück; "
    "währenddessen dürfen andere Gespräche weiterlaufen. "
)
CHINESE = "模型加载完成之后，请求会按照顺序得到处理，并且可以看到自己的位置和预计时间。"  # noqa: RUF001 - its own comma


@pytest.mark.parametrize(
    "text, real",
    [
        (GERMAN * 20, 601),
        (CHINESE * 20, 400),
        ("Пока модель загружается, запросы ждут своей очереди и видят ожидаемое время. " * 20, 342),
        ("0123456789" * 300, 3000),
        ("😀🚀🧪🔥👩‍💻" * 50, 350),
    ],
    ids=["german", "chinese", "russian", "digits", "emoji"],
)
def test_never_too_few_and_not_absurdly_many(text, real):
    assert real <= text_tokens(text) <= 5 * real


def test_an_empty_text_and_half_a_letter_are_counted():
    assert (text_tokens(""), text_tokens("\ud800")) == (1, 3)
