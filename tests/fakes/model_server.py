"""An OpenAI-compatible model server whose every fault is a flag; standard library only, ready in a few milliseconds.

Takes the arguments of ``llama-server`` it needs and answers what worker, proxy and client ask: ``/health``,
``/v1/models``, ``/v1/completions``, ``/v1/chat/completions`` (streams too), ``/v1/embeddings``. It says ``tok0 tok1``.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser()
    cli.add_argument("--host", default="127.0.0.1")
    cli.add_argument("--port", type=int, required=True)
    cli.add_argument("--model", "-m", default="")
    cli.add_argument("--alias", "-a", default="fake")
    cli.add_argument("--api-key-file")
    cli.add_argument("--load-delay", type=float, default=0.0, help="seconds of 503 before ready")
    cli.add_argument("--read-model", action="store_true", help="read the model file slowly over the load delay")
    cli.add_argument("--ignore-sigterm", action="store_true")
    cli.add_argument("--fork-child", action="store_true", help="a child in the same group that survives")
    cli.add_argument("--fork-daemon", action="store_true", help="a child in a session of its own that survives")
    cli.add_argument("--die-at-start", type=int, metavar="STATUS", help="exit with this status before listening")
    cli.add_argument("--die-saying", metavar="WORDS", help="print this and exit 1 before listening")
    cli.add_argument("--die-first", nargs=2, metavar=("FILE", "N"), help="the first N starts exit 1; FILE counts them")
    cli.add_argument("--die-first-saying", default="error: something went wrong", help="what those print")
    cli.add_argument("--hold", metavar="FILE", help="FILE is there while this server lives (and is asked to end)")
    cli.add_argument("--abort-beside", metavar="FILE", help="SIGABRT at the start while FILE is there")
    cli.add_argument("--mute-after", type=int, metavar="N", help="after N answers no token any more; /health goes on")
    cli.add_argument("--toil", action="store_true", help="keep the processor busy while mute")
    cli.add_argument("--broken-after", nargs=2, metavar=("N", "WORDS"), help="after N answers 500 to everything")
    cli.add_argument("--any-key", action="store_true", help="take every key")
    cli.add_argument("--key-log", metavar="FILE", help="append every authorization header")
    cli.add_argument("--die-during-load", action="store_true", help="exit 1 at half the load delay")
    cli.add_argument("--die-after", type=float, metavar="S", help="SIGKILL itself so long after it is ready")
    cli.add_argument("--die-mid-stream", type=int, metavar="N", help="SIGKILL itself after N streamed tokens")
    cli.add_argument("--empty", action="store_true", help="answer without a single token")
    cli.add_argument("--only-reasoning", action="store_true", help="chat: nothing but reasoning, cut at the limit")
    cli.add_argument("--garbage", action="store_true", help="answer in characters that cannot be printed")
    cli.add_argument("--answer-name", metavar="NAME", help="the name its answers give their model")
    cli.add_argument("--error-inside", action="store_true", help="an error in a 200, after the first token of a stream")
    cli.add_argument("--bad-answers", type=int, metavar="N", help="only the first N answers have these faults")
    cli.add_argument("--wrong-name", help="the name /v1/models lists")
    cli.add_argument("--hang-health", action="store_true", help="never answer /health")
    cli.add_argument("--hang-after", type=float, metavar="S", help="answer nothing any more so long after ready")
    cli.add_argument("--never-ready", action="store_true", help="503 for ever")
    cli.add_argument("--no-completions", action="store_true", help="404 on /v1/completions")
    cli.add_argument("--token-delay", type=float, default=0.0, help="seconds per token")
    cli.add_argument("--noise", type=int, default=0, help="bytes printed at the start")
    cli.add_argument("--print-environment", action="store_true")
    cli.add_argument("--sleep-delay", type=float, metavar="S", help="it sleeps and wakes as vLLM does, each so slowly")
    cli.add_argument("--footprint", type=int, default=0, metavar="MIB", help="what /footprint says while it is awake")
    cli.add_argument("--tell-port", action="store_true", help="print the port that it listens on")
    return cli


class Server:
    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags = flags
        self.started_s = time.monotonic()
        self.answers = 0
        self.asleep = False
        self.key = Path(flags.api_key_file).read_text().strip() if flags.api_key_file else None

    @property
    def ready(self) -> bool:
        return not self.flags.never_ready and time.monotonic() - self.started_s >= self.flags.load_delay

    @property
    def hung(self) -> bool:
        after = self.flags.hang_after
        return after is not None and time.monotonic() - self.started_s >= self.flags.load_delay + after

    def serve(self) -> None:
        listener = socket.create_server((self.flags.host, self.flags.port), backlog=128)
        if self.flags.tell_port:
            sys.stdout.write(f"{listener.getsockname()[1]}\n")
            sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.converse, args=(connection,), daemon=True).start()

    def converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as reader:
            while (request := read_request(reader)) is not None:
                method, path, headers, body = request
                try:
                    self.answer(connection, method, path.split("?")[0], headers, body)
                except OSError:
                    return
                if headers.get("connection", "").lower() == "close":
                    return

    def answer(self, connection, method, path, headers, body) -> None:
        if self.flags.key_log:
            with Path(self.flags.key_log).open("a") as file:
                file.write(f"{path} {headers.get('authorization', '-')}\n")
        if self.hung or (path == "/health" and self.flags.hang_health):
            time.sleep(3600)
        if path == "/health":
            self.send(connection, *((200, {"status": "ok"}) if self.ready else (503, problem("Loading model", 503))))
        elif self.key is not None and not self.flags.any_key and headers.get("authorization") != f"Bearer {self.key}":
            self.send(connection, 401, problem("Invalid API Key", 401))
        elif not self.ready:
            self.send(connection, 503, problem("Loading model", 503))
        elif (method, path) == ("GET", "/v1/models"):
            name = self.flags.wrong_name or self.flags.alias
            self.send(connection, 200, {"object": "list", "data": [{"id": name, "object": "model"}]})
        elif (method, path) == ("POST", "/v1/completions") and not self.flags.no_completions:
            self.complete(connection, json.loads(body), chat=False)
        elif (method, path) == ("POST", "/v1/chat/completions"):
            self.complete(connection, json.loads(body), chat=True)
        elif (method, path) == ("POST", "/v1/embeddings"):
            vector = [] if self.flags.empty else [0.1, 0.2, 0.3]
            self.send(connection, 200, {"object": "list", "data": [{"index": 0, "embedding": vector}]})
        else:
            self.send(connection, *self.told_of_sleep(path))

    def told_of_sleep(self, path: str) -> tuple[int, dict]:
        if self.flags.sleep_delay is None or path not in {"/sleep", "/wake_up", "/is_sleeping", "/footprint"}:
            return 404, problem("File Not Found", 404)
        if path in {"/sleep", "/wake_up"}:
            time.sleep(self.flags.sleep_delay)
            self.asleep = path == "/sleep"
        return 200, {"is_sleeping": self.asleep, "mib": 0 if self.asleep else self.flags.footprint}

    def complete(self, connection, request, *, chat) -> None:
        while self.asleep:  # as vLLM does: no error, no answer before somebody wakes it
            time.sleep(0.01)
        self.answers += 1
        if self.flags.mute_after is not None and self.answers > self.flags.mute_after:
            be_mute(toil=self.flags.toil)
        if self.flags.broken_after and self.answers > int(self.flags.broken_after[0]):
            self.send(connection, 500, problem(self.flags.broken_after[1], 500))
            return
        bad = self.flags.bad_answers is None or self.answers <= self.flags.bad_answers
        speech = Speech(self.flags, request, chat=chat, bad=bad)
        if request.get("stream"):
            self.stream(connection, speech)
            return
        time.sleep(self.flags.token_delay * speech.count)
        self.send(connection, 200, speech.whole())

    def stream(self, connection, speech) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for index, event in enumerate(speech.events()):
            if self.flags.die_mid_stream is not None and index >= self.flags.die_mid_stream:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self.flags.token_delay)
            send_chunk(connection, b"data: " + json.dumps(event).encode() + b"\n\n")
        send_chunk(connection, b"data: [DONE]\n\n")
        send_chunk(connection, b"")

    @staticmethod
    def send(connection, status, document) -> None:
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


class Speech:
    """What one answer says."""

    def __init__(self, flags: argparse.Namespace, request: dict, *, chat: bool, bad: bool) -> None:
        self.chat, self.bad, self.flags = chat, bad, flags
        self.count = 0 if bad and flags.empty else int(request.get("max_tokens") or 8)
        self.model = flags.answer_name if bad and flags.answer_name else flags.alias

    def words(self) -> list[str]:
        return ["\x01\ufffd" if self.bad and self.flags.garbage else f"tok{index} " for index in range(self.count)]

    def said(self, text: str) -> dict:
        """A part of a choice that says it."""
        if not self.chat:
            return {"text": text}
        return {"reasoning_content" if self.bad and self.flags.only_reasoning else "content": text}

    def events(self):
        for number, word in enumerate(self.words()):
            if number and self.bad and self.flags.error_inside:
                yield problem("broken inside", 500)
                return
            said = {"delta": self.said(word)} if self.chat else self.said(word)
            yield {"model": self.model, "choices": [{"index": 0, **said}]}
        end = {"delta": {}} if self.chat else {"text": ""}
        yield {"model": self.model, "choices": [{"index": 0, **end, "finish_reason": "length"}]}

    def whole(self) -> dict:
        if self.bad and self.flags.error_inside:
            return problem("broken inside", 500)
        said = self.said("".join(self.words()))
        choice = {"message": {"role": "assistant", "content": "", **said}} if self.chat else said
        usage = {"prompt_tokens": 1, "completion_tokens": self.count, "total_tokens": self.count + 1}
        choices = [{"index": 0, "finish_reason": "length", **choice}]
        return {"model": self.model, "choices": choices, "usage": usage}


def problem(message: str, code: int) -> dict:
    return {"error": {"message": message, "type": "unavailable_error", "code": code}}


def send_chunk(connection: socket.socket, data: bytes) -> None:
    connection.sendall(b"%x\r\n%s\r\n" % (len(data), data))


def read_request(reader):
    line = reader.readline(65536)
    if not line.strip():
        return None
    method, path, _ = line.decode("latin-1").split()
    headers = {}
    while (line := reader.readline(65536)).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, path, headers, reader.read(int(headers.get("content-length", 0)))


def fork_survivor(*, own_session: bool) -> None:
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if own_session:
            os.setsid()
        while True:
            time.sleep(60)


def read_slowly(path: str, seconds: float) -> None:
    size = Path(path).stat().st_size
    with Path(path).open("rb", buffering=0) as file:
        for _ in range(20):
            file.read(size // 20 + 1)
            time.sleep(seconds / 20)


def be_mute(*, toil: bool) -> None:
    while toil:
        pass
    time.sleep(3600)


def count_start(path: str) -> int:
    """The number of this start."""
    with Path(path).open("a") as file:
        file.write("x")
    return Path(path).stat().st_size


def hold(path: str) -> None:
    """FILE is there until this server is asked to end."""
    Path(path).touch()

    def leave(*_: object) -> None:
        Path(path).unlink(missing_ok=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def later(seconds: float, action) -> None:
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()


def fail_at_the_start(flags: argparse.Namespace) -> None:
    if flags.die_at_start is not None:
        say("error: cannot load the model")
        sys.exit(flags.die_at_start)
    if flags.die_saying is not None:
        say(flags.die_saying)
        sys.exit(1)
    if flags.die_first and count_start(flags.die_first[0]) <= int(flags.die_first[1]):
        say(flags.die_first_saying)
        sys.exit(1)
    if flags.abort_beside and Path(flags.abort_beside).exists():
        os.kill(os.getpid(), signal.SIGABRT)


def main() -> None:
    flags = parser().parse_args()
    fail_at_the_start(flags)
    if flags.hold:
        hold(flags.hold)
    if flags.ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if flags.fork_child or flags.fork_daemon:
        fork_survivor(own_session=flags.fork_daemon)
    if flags.print_environment:
        say(json.dumps(dict(os.environ)))
    if flags.noise:
        say("x" * flags.noise)
    if flags.read_model:
        threading.Thread(target=read_slowly, args=(flags.model, flags.load_delay), daemon=True).start()
    if flags.die_during_load:
        later(flags.load_delay / 2, lambda: os._exit(1))
    if flags.die_after is not None:
        later(flags.load_delay + flags.die_after, lambda: os.kill(os.getpid(), signal.SIGKILL))
    Server(flags).serve()


if __name__ == "__main__":
    main()
