"""A model server that does as the last message says: `slow N` takes N seconds, `spawn one` starts a sub-agent."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "xylophone-4711"
"""Part of every message and answer: nothing that leaves through the plugin may contain it."""


class ModelServer:
    """Streams; remembers when each model was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []
        calls = self.calls
        self.on_call: Callable[[], object] = lambda: None
        """Called as soon as a request is here."""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_words: object) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.on_call()
                calls.append((time.monotonic(), body["model"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                try:
                    for chunk in _answer(body):
                        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                        self.wfile.flush()
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    pass  # whoever asked has gone away

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    messages = body["messages"]
    last = _asked(messages)
    slow = re.search(r"slow (\d+)", last)
    if slow:
        time.sleep(int(slow[1]))
    tools = {tool["function"]["name"] for tool in body.get("tools", [])}
    if "spawn one" in last and "sessions_spawn" in tools and not any(each["role"] == "tool" for each in messages[-6:]):
        arguments = json.dumps({"task": f"a task {SECRET}", "model": "hotseat/beta"})
        call = {"index": 0, "id": "t1", "type": "function"}
        call["function"] = {"name": "sessions_spawn", "arguments": arguments}
        yield _chunk(body, {"role": "assistant", "tool_calls": [call]}, None)
        yield _chunk(body, {}, "tool_calls")
        return
    yield _chunk(body, {"role": "assistant", "content": f"ok {SECRET}"}, None)
    yield _chunk(body, {}, "stop")


def _chunk(body: dict[str, Any], delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": body["model"], "choices": [choice]}


def _asked(messages: list[dict[str, Any]]) -> str:
    """What was said since the last answer: OpenClaw may put a note of its own after the person's message."""
    said = []
    for message in reversed(messages):
        if message["role"] == "assistant" and not message.get("tool_calls"):
            break
        if message["role"] == "user":
            said.append(_text(message))
    return " ".join(said)


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
