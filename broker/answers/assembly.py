"""What a streamed answer says when all of it is there: the text of every choice, as of an answer that is no stream."""

from broker.answers.documents import Document, table_in, tables
from broker.answers.events import EventSplitter
from broker.answers.reading import decoded
from broker.answers.verdict import Shape


def assembled(shape: Shape, body: bytes) -> Document:
    """The document that a stream amounts to, as far as its text and its calls go."""
    splitter = EventSplitter()
    events = [event for data in splitter.feed(body) + splitter.close() if (event := decoded(data)) is not None]
    if shape is Shape.RESPONSES:
        return _response(events)
    if shape is Shape.MESSAGES:
        return {"content": _blocks(events)}
    return {"choices": _choices(events)}


def _choices(events: list[Document]) -> list[Document]:
    """OpenAI's chunks, by the index of the choice."""
    texts: dict[object, list[str]] = {}
    calls: set[object] = set()
    for choice in (choice for event in events for choice in tables(event.get("choices"))):
        index, delta = choice.get("index", 0), table_in(choice.get("delta"))
        said = texts.setdefault(index if isinstance(index, int) else 0, [])
        said += [text for text in (delta.get("content"), choice.get("text")) if isinstance(text, str)]
        said += [part["text"] for part in tables(delta.get("content")) if isinstance(part.get("text"), str)]
        if delta.get("tool_calls") or delta.get("function_call"):
            calls.add(index)
    return [
        {"message": {"content": "".join(said), "tool_calls": [{}] if index in calls else []}}
        for index, said in texts.items()
    ]


def _blocks(events: list[Document]) -> list[Document]:
    """Anthropic's blocks, by their index."""
    blocks: dict[object, Document] = {}
    for event in events:
        index = event.get("index")
        if event.get("type") == "content_block_start":
            blocks[index] = dict(table_in(event.get("content_block")))
        elif event.get("type") == "content_block_delta":
            text, block = table_in(event.get("delta")).get("text"), blocks.setdefault(index, {"type": "text"})
            if isinstance(text, str):
                block["text"] = block.get("text", "") + text
    return list(blocks.values())


def _response(events: list[Document]) -> Document:
    """The response that the last event holds; a stream that ends without one is what its deltas say."""
    for event in reversed(events):
        if tables((response := table_in(event.get("response"))).get("output")):
            return response
    text = "".join(
        event["delta"]
        for event in events
        if event.get("type") == "response.output_text.delta" and isinstance(event.get("delta"), str)
    )
    items = [table_in(event.get("item")) for event in events if event.get("type") == "response.output_item.done"]
    calls = [item for item in items if item.get("type") not in {"message", "reasoning"}]
    return {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}, *calls]}
