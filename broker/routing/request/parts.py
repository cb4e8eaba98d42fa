"""The words of the protocols' bodies: which parts can be read, which cannot, which are pictures."""

import re
from typing import Any

from broker.routing.request.request import RequestKind

SPOKEN_FIELDS = {
    RequestKind.CHAT: frozenset({"messages"}),
    RequestKind.COMPLETION: frozenset({"prompt", "suffix"}),
    RequestKind.RESPONSES: frozenset({"input", "instructions"}),
    RequestKind.MESSAGES: frozenset({"messages", "system"}),
    RequestKind.EMBEDDINGS: frozenset({"input"}),
}
"""Where the conversation is; objects in it must be of known types."""

IMAGE_PARTS = frozenset({"image_url", "input_image", "image", "computer_screenshot"})
TOOL_RESULTS = frozenset({"tool_result", "function_call_output", "custom_tool_call_output", "computer_call_output"})
"""A picture in one was made by a tool on the user's machine: a screen, a camera, a file."""
OPAQUE_PARTS = frozenset({
    "audio", "input_audio", "file", "input_file", "video_url", "input_video", "redacted_thinking", "item_reference",
    "container_upload", "mcp_tool_use", "mcp_tool_result",
})  # fmt: skip
"""Known, and not to be read by us."""
KNOWN_PARTS = IMAGE_PARTS | TOOL_RESULTS | OPAQUE_PARTS | frozenset({
    "text", "input_text", "output_text", "summary_text", "reasoning_text", "refusal", "thinking", "reasoning",
    "message", "function", "custom", "function_call", "custom_tool_call", "computer_call", "tool_use",
    "server_tool_use", "document", "search_result", "base64", "url", "content",
})  # fmt: skip
"""Every type an object of a conversation may have; the last three are an Anthropic source's."""

FREE_FIELDS = frozenset({
    "arguments", "input", "action", "cache_control", "citations", "annotations", "metadata", "logprobs",
    "encrypted_content", "signature", "type", "role", "id", "call_id", "tool_call_id", "tool_use_id", "status",
})  # fmt: skip
"""Inside a part: any JSON or a plain word, its strings are kept and its shape is nobody's business."""

UNSEEN_FIELDS = frozenset({"previous_response_id", "conversation", "container", "mcp_servers", "prompt_id"})
"""The upstream would add what we never saw."""

MARKS = re.compile(
    r"screen[ _-]?(?:shot|grab|cap|record)|\b(?:camera|webcam|photo|selfie)\b|\b(?:IMG|DSCN?|PXL|MVIMG)_?\d",
    re.IGNORECASE,
)
"""Says of a picture that it shows a screen or what a camera saw."""

LONGEST_MARKED = 65_536
"""Characters of a string that is looked through for one; a longer one is a picture's own letters."""

_READS_ELSEWHERE = frozenset({"mcp", "file_search"})


def is_reference(part: dict[str, Any]) -> bool:
    """Does a part of the conversation stand for something that the upstream keeps or fetches?"""
    source = part.get("source")
    if part.get("type") == "document" and isinstance(source, dict) and source.get("type") == "url":
        return True
    return "file_id" in part or ("id" in part and part.get("type") is None and part.keys() <= {"id", "type"})


def reads_elsewhere(tool: Any) -> bool:
    """Is it a tool with which the upstream reads, by itself, what never passes here?"""
    if not isinstance(tool, dict):
        return False
    container = tool.get("container")
    has_files = isinstance(container, dict) and bool(container.get("file_ids"))
    return has_files or tool.get("type") in tuple(_READS_ELSEWHERE)


def has_address(value: Any) -> bool:
    """Is a picture somewhere on the web, where the upstream can fetch it?"""
    if isinstance(value, str):
        return value.startswith(("https://", "http://"))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(has_address, inner))


def is_image(value: Any) -> bool:
    """Is it a part that holds a picture?"""
    return isinstance(value, dict) and value.get("type") in tuple(IMAGE_PARTS)


def says_mark(value: Any) -> bool:
    """Do the strings of a part, base64 aside, speak of a screen or a camera?"""
    if isinstance(value, str):
        return len(value) < LONGEST_MARKED and MARKS.search(value) is not None
    if isinstance(value, dict):
        return any(says_mark(inner) for inner in value.values())
    return isinstance(value, list) and any(says_mark(inner) for inner in value)
