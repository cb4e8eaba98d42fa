"""How each shape tells its content: one function per shape, the same for a whole answer and for a streamed event.

Rule: what is not understood is passed over. Only known places count as reasoning; any other kind of output item or
content block than text counts as content, so that a new kind is never taken for an empty answer.
"""

from collections.abc import Callable
from typing import Any

from broker.answers.documents import Document, table_in, tables
from broker.answers.facts import Facts
from broker.answers.verdict import Shape

REASONING_FIELDS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Fields of a chat message that hold reasoning: llama.cpp, vLLM and DeepSeek use the first, Ollama and OpenRouter the
second."""
REASONING_KINDS = frozenset(
    {
        "thinking", "thinking_delta", "redacted_thinking", "reasoning", "reasoning_text", "summary_text",
        "reasoning.text", "reasoning.summary", "reasoning.encrypted",
    }
)  # fmt: skip
"""Types of parts and blocks that are reasoning; the last three are those of OpenRouter's ``reasoning_details``."""


def read_chat(document: Document, facts: Facts) -> None:
    """Read a ``chat.completion`` or ``chat.completion.chunk``."""
    _read_common(document, facts)
    for choice in tables(document.get("choices")):
        if message := choice.get("delta") or choice.get("message"):
            _read_message(table_in(message), facts)
        _read_probabilities(choice, facts)
        facts.saw_finish(choice.get("finish_reason"))


def _read_message(message: Document, facts: Facts) -> None:
    if content := message.get("content"):
        facts.saw_text(content)
        for part in tables(content):
            _read_part(part, facts)
    if not facts.reasoning:
        for name in REASONING_FIELDS:
            facts.saw_reasoning(message.get(name))
        for part in tables(message.get("reasoning_details")):
            _read_part(part, facts)
    if "refusal" in message:
        facts.saw_text(message["refusal"])
    if "tool_calls" in message or "function_call" in message:
        calls = [table_in(call.get("function")) or call for call in tables(message.get("tool_calls"))]
        calls.append(table_in(message.get("function_call")))
        if any(call.get("name") or call.get("arguments") or call.get("custom") for call in calls):
            facts.content = True
    if message.get("audio") or message.get("images"):
        facts.content = True


def _read_part(part: Document, facts: Facts) -> None:
    """One part of a message or block of Anthropic's: text, reasoning, or anything else."""
    kind = part.get("type")
    if kind in {"text", "output_text", "refusal", "text_delta"}:
        facts.saw_text(part.get("text"))
        facts.saw_text(part.get("refusal"))
    elif kind in REASONING_KINDS:
        for name in ("thinking", "text", "summary"):
            facts.saw_reasoning(part.get(name))
        facts.saw_hidden_reasoning(part.get("data"))
    elif kind != "signature_delta":
        facts.content = True


def read_text(document: Document, facts: Facts) -> None:
    """Read a ``text_completion``, whole or as a chunk."""
    _read_common(document, facts)
    for choice in tables(document.get("choices")):
        facts.saw_text(choice.get("text"))
        _read_probabilities(choice, facts)
        facts.saw_finish(choice.get("finish_reason"))


def _read_probabilities(choice: Document, facts: Facts) -> None:
    """Who asked how probable the tokens are has an answer, whatever their text is."""
    if (said := choice.get("logprobs")) and any(table_in(said).values()):
        facts.content = True


def _read_common(document: Document, facts: Facts) -> None:
    if facts.model is None:
        facts.saw_model(document.get("model"))
    if "error" in document:
        facts.saw_error(document["error"])
    if "usage" in document:
        facts.saw_usage(document["usage"])
    if "timings" in document:
        facts.saw_timings(document["timings"])


def read_responses(document: Document, facts: Facts) -> None:
    """Read a ``response`` or one of the events around it."""
    kind = document.get("type")
    if not isinstance(kind, str):
        _read_response(document, facts)
        return
    delta = document.get("delta")
    if kind in {"response.output_text.delta", "response.refusal.delta"}:
        facts.saw_text(delta)
    elif kind.startswith("response.reasoning") and kind.endswith(".delta"):
        facts.saw_reasoning(delta)
    elif kind.startswith("response.output_item."):
        _read_item(table_in(document.get("item")), facts)
    elif kind.endswith(".delta") and delta:
        facts.content = True
    elif kind == "error":
        facts.saw_error(document.get("error") or document)
    _read_response(table_in(document.get("response")), facts)


def _read_response(response: Document, facts: Facts) -> None:
    facts.saw_model(response.get("model"))
    facts.saw_error(response.get("error"))
    facts.saw_usage(response.get("usage"))
    for item in tables(response.get("output")):
        _read_item(item, facts)
    if response.get("status") != "in_progress":
        facts.saw_finish(table_in(response.get("incomplete_details")).get("reason") or response.get("status"))


def _read_item(item: Document, facts: Facts) -> None:
    kind = item.get("type")
    if kind == "message":
        for part in tables(item.get("content")):
            _read_part(part, facts)
    elif kind == "reasoning":
        for part in tables(item.get("content")) + tables(item.get("summary")):
            _read_part(part, facts)
        facts.saw_hidden_reasoning(item.get("encrypted_content"))
    elif kind:
        facts.content = True


def read_messages(document: Document, facts: Facts) -> None:
    """Read a ``message`` or one of the events around it."""
    kind = document.get("type")
    if kind == "error" or (kind is None and "error" in document):
        facts.saw_error(document.get("error") or document)
    elif kind == "content_block_start":
        _read_part(table_in(document.get("content_block")), facts)
    elif kind == "content_block_delta":
        delta = table_in(document.get("delta"))
        if delta.get("type") != "citations_delta":
            _read_part(delta, facts)
    elif kind == "message_delta":
        facts.saw_finish(table_in(document.get("delta")).get("stop_reason"))
        facts.saw_anthropic_usage(document.get("usage"))
    else:
        message = table_in(document.get("message")) if kind == "message_start" else document
        facts.saw_model(message.get("model"))
        facts.saw_anthropic_usage(message.get("usage"))
        facts.saw_finish(message.get("stop_reason"))
        for block in tables(message.get("content")):
            _read_part(block, facts)


def read_whole(document: Document, facts: Facts) -> None:
    """Read embeddings, rankings, images; a document of another kind is content if it says anything at all."""
    _read_common(document, facts)
    items = document.get("data", document.get("results"))
    if not isinstance(items, list):
        facts.content = facts.content or (bool(document) and not facts.error)
    else:
        read_list(items, facts)


def read_list(items: list[Any], facts: Facts) -> None:
    """Vectors, rankings, images; some servers answer with nothing around them.

    A vector that begins with null is garbage: NaN has no other word in JSON.
    """
    for item in items:
        vector = item["embedding"] if isinstance(item, dict) and "embedding" in item else item
        if isinstance(vector, list) and vector and vector[0] is None:
            facts.garbled = True
        elif vector:
            facts.content = True


def read_transcript(document: Document, facts: Facts) -> None:
    """Read what was said in a recording, whole or as events; the other fields say nothing."""
    _read_common(document, facts)
    for said in (document, *tables(document.get("segments")), *tables(document.get("choices"))):
        for name in ("text", "delta"):
            facts.saw_text(said.get(name))
            facts.saw_text(table_in(said.get(name)).get("content"))


READERS: dict[Shape, Callable[[Document, Facts], None]] = {
    Shape.CHAT: read_chat,
    Shape.TEXT: read_text,
    Shape.RESPONSES: read_responses,
    Shape.MESSAGES: read_messages,
    Shape.WHOLE: read_whole,
}
