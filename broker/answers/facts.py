"""What has been learned about one answer so far: gathered event by event, judged at the end."""

from typing import Any

from broker.answers.errors import is_about_the_request, is_unparsed
from broker.answers.verdict import Usage

MAX_TOKENS = 10**9
"""A count above it is a mistake, and not kept."""
NAME_LIMIT = 256

_REPLACEMENT = "\ufffd"


class Facts:
    """Mutable, one per answer. Facts only ever get more."""

    __slots__ = (
        "_cached", "_completion", "_prompt", "_reasoned", "blank", "content", "error", "finish", "garbled", "model",
        "reasoning", "refused", "shown_reasoning", "unparsed", "unreadable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.content = False
        """Something a client can use: visible text, a tool call, a vector, an image."""
        self.reasoning = False
        self.shown_reasoning = False
        """Reasoning in words that a client can see was there."""
        self.blank = False
        """Text was there that is white space only."""
        self.garbled = False
        """Text was there without one printable character that is not white space."""
        self.unreadable = False
        """Something was there that is not what the protocol says."""
        self.error: str | None = None
        self.refused = False
        """The answer is an error, and the error is about the request."""
        self.unparsed = False
        """The error says that what the model wrote could not be read."""
        self.model: str | None = None
        self.finish: str | None = None
        self._prompt: int | None = None
        self._completion: int | None = None
        self._cached: int | None = None
        self._reasoned: int | None = None

    @property
    def usage(self) -> Usage:
        """The token counts as the answer gave them; None for each that it did not give."""
        return Usage(prompt=self._prompt, completion=self._completion, cached=self._cached, reasoning=self._reasoned)

    def saw_text(self, text: object) -> None:
        """Take in a piece of the visible answer."""
        if self.content or not isinstance(text, str) or not text:
            return
        if is_visible(text):
            self.content = True
        elif text.isspace():
            self.blank = True
        else:
            self.garbled = True

    def saw_reasoning(self, text: object) -> None:
        """Take in a piece of reasoning in words."""
        if isinstance(text, str) and text:
            self.reasoning = True
            self.shown_reasoning = self.shown_reasoning or is_visible(text)

    def saw_hidden_reasoning(self, text: object) -> None:
        """Note a piece of reasoning that is encrypted."""
        if isinstance(text, str) and text:
            self.reasoning = True

    def saw_model(self, name: object) -> None:
        """Keep the name that the answer gives its model; the first one counts."""
        if self.model is None and isinstance(name, str) and name:
            self.model = name[:NAME_LIMIT]

    def saw_finish(self, word: object) -> None:
        """Keep the answer's own word for why it ended; the last one counts."""
        if word and isinstance(word, str):
            self.finish = word[:64]

    def saw_error(self, error: object) -> None:
        """Note an error object or text inside the answer. Its message is not kept: it may quote the prompt."""
        if not error:
            return
        kind = error.get("code") or error.get("type") if isinstance(error, dict) else None
        self.error = str(kind)[:64] if isinstance(kind, str | int) else "error"
        message = error.get("message") if isinstance(error, dict) else error
        words = [str(error.get(name)) for name in ("code", "type")] if isinstance(error, dict) else []
        self.unparsed = isinstance(message, str) and is_unparsed(message)
        self.refused = is_about_the_request(words, message if isinstance(message, str) else "")

    def saw_usage(self, usage: object) -> None:
        """Keep OpenAI's token counts, of either API; the last ones win."""
        if not isinstance(usage, dict):
            return
        of_prompt = _details(usage, "prompt_tokens_details", "input_tokens_details")
        of_completion = _details(usage, "completion_tokens_details", "output_tokens_details")
        self._merge(
            prompt=_count(usage, "prompt_tokens", "input_tokens"),
            completion=_count(usage, "completion_tokens", "output_tokens"),
            cached=_count(of_prompt, "cached_tokens"),
            reasoning=_count(of_completion, "reasoning_tokens"),
        )

    def saw_anthropic_usage(self, usage: object) -> None:
        """Keep Anthropic's token counts: cached tokens are beside ``input_tokens``, not in it."""
        if not isinstance(usage, dict):
            return
        cached = _count(usage, "cache_read_input_tokens")
        prompt = _count(usage, "input_tokens")
        if prompt is not None:
            prompt += (cached or 0) + (_count(usage, "cache_creation_input_tokens") or 0)
        self._merge(prompt=prompt, completion=_count(usage, "output_tokens"), cached=cached, reasoning=None)

    def saw_timings(self, timings: object) -> None:
        """Keep llama.cpp's counts, which are in every last chunk; they count only where ``usage`` says nothing."""
        if not isinstance(timings, dict) or self._completion is not None:
            return
        cached, evaluated = _count(timings, "cache_n"), _count(timings, "prompt_n")
        prompt = None if evaluated is None else evaluated + (cached or 0)
        self._merge(prompt=prompt, completion=_count(timings, "predicted_n"), cached=cached, reasoning=None)

    def _merge(self, *, prompt: int | None, completion: int | None, cached: int | None, reasoning: int | None) -> None:
        self._prompt = self._prompt if prompt is None else prompt
        self._completion = self._completion if completion is None else completion
        self._cached = self._cached if cached is None else cached
        self._reasoned = self._reasoned if reasoning is None else reasoning


def is_visible(text: str) -> bool:
    """Has it a character one can see? The replacement character stands for what could not be decoded."""
    return any(char.isprintable() and char not in {" ", _REPLACEMENT} for char in text)


def _details(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def _count(table: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = table.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS:
            return value
    return None
