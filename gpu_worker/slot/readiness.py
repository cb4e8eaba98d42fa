"""Is this model server ready, is it still alive: asked of the server itself, over HTTP on this host.

Rule: ready = the health endpoint answers 200 *and* ``/v1/models`` lists the right name *and* the server has generated
one token (an embedding model: one vector; a reranker: one ranking) for a bearer of the generation key. A server can be
healthy and crash at its first decode. Nothing is said to a port, the key least of all, before it is proved that our
server listens there.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpu_worker.drivers.last_words import cut, last_words
from gpu_worker.drivers.port import Address
from gpu_worker.host.listeners import StrangerError
from gpu_worker.slot import clock

FIRST_POLL_S = 0.01
SLOWEST_POLL_S = 0.5
POLL_SHARE = 0.02
"""Polls are this share of the elapsed time apart: noticing late costs at most 2 % of a load."""
ANSWER_LIMIT_BYTES = 1 << 20
REQUEST_TIMEOUT_S = 5.0
IDLE_SHARE = 0.02
"""Of the time in which it owed a token: a server whose processes worked less than this did nothing."""
SECOND_TRY_S = 1.0
"""An error is an answer; a server is asked once more after this before it is given up."""
WORDS_LIMIT = 200
"""Characters of a server's error that are repeated."""
NOT_ABOUT_THE_MODEL = frozenset({501, 503})
"""Busy, or not that kind of question."""


_NOT_THERE = frozenset({404, 405, 501})


class NotReadyError(Exception):
    """The server will not become ready; the message is for the report."""


class WrongServerError(NotReadyError):
    """It offers another model, or does not take the key it was started with: so it will the next time."""


class NoOutputError(NotReadyError):
    """It says it is ready and gives no first token; ``words`` is what it said instead."""

    def __init__(self, message: str, words: str = "") -> None:
        super().__init__(f"{message}: {words}" if words else message)
        self.words = words


class StrangerThereError(NotReadyError):
    """Somebody else answers on its port."""


class ProbeError(Exception):
    """One request failed: nobody listens, no answer in time, or not HTTP."""


class ProbeSilentError(ProbeError):
    """The request was taken and not answered in time."""


class PortOwner(Protocol):
    """See ``port.Server``."""

    def is_there(self) -> bool:
        """Does our server listen at its address? Raises ``StrangerError`` where somebody else does."""
        ...


Connect = Callable[[Address], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Connects to a model server; raises ``OSError`` where nobody listens."""


async def connection_to(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a socket to a server of this host: TCP, or the one at its path."""
    if address.socket:
        return await asyncio.open_unix_connection(address.socket, limit=ANSWER_LIMIT_BYTES)
    return await asyncio.open_connection(address.host, address.port, limit=ANSWER_LIMIT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTarget:
    """A model server to ask."""

    address: Address
    key: str = field(repr=False)
    served_name: str
    kind: str
    owner: PortOwner
    """Asked before every request: the key goes to nobody else."""
    health_path: str = "/health"
    connect: Connect = connection_to


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeAnswer:
    """Status and body of one HTTP answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body as JSON; None where it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def words(self) -> str:
        """What an error says, bounded and printable."""
        document = self.json()
        error = document.get("error", document) if isinstance(document, dict) else document
        said = error.get("message") if isinstance(error, dict) else error
        text = said.encode() if isinstance(said, str) else self.body
        return cut(last_words(text, (), whole=True), WORDS_LIMIT)


async def ask(target: ProbeTarget, method: str, path: str, *, body: object = None, timeout_s: float) -> ProbeAnswer:
    """One request on a connection of its own.

    Raises:
        ProbeError: Nobody listens, no answer within ``timeout_s``, or none that is HTTP.
        StrangerError: Somebody else listens there; nothing was said to him.
    """
    if not target.owner.is_there():
        raise ProbeError(f"{method} {path}: nobody listens at {target.address}")
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(target, method, path, body)
    except TimeoutError as error:
        raise ProbeSilentError(f"{method} {path}: no answer within {timeout_s:g} s") from error
    except (
        OSError,
        ValueError,
        IndexError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
    ) as error:
        raise ProbeError(f"{method} {path}: {str(error) or type(error).__name__}") from error


async def _exchange(target: ProbeTarget, method: str, path: str, body: object) -> ProbeAnswer:
    reader, writer = await target.connect(target.address)
    try:
        payload = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: {target.address.authority}\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {target.key}\r\nContent-Length: {len(payload)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + payload)
        return await _read_answer(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _read_answer(reader: asyncio.StreamReader) -> ProbeAnswer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    status = int(head[0].split()[1])
    if headers.get("transfer-encoding") == "chunked":
        return ProbeAnswer(status=status, body=await _read_chunks(reader))
    length = int(headers.get("content-length", "-1"))
    if length > ANSWER_LIMIT_BYTES:
        raise ValueError("answer too large")
    body = await (reader.readexactly(length) if length >= 0 else reader.read(ANSWER_LIMIT_BYTES))
    return ProbeAnswer(status=status, body=body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        if len(body) + size > ANSWER_LIMIT_BYTES:
            raise ValueError("answer too large")
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def wait_ready(target: ProbeTarget, *, timeout_s: float, on_poll: Callable[[], None]) -> None:
    """Return when the server is ready in all three senses.

    Args:
        target: The server that was just started.
        timeout_s: Of the whole load, seconds.
        on_poll: Called after every unsuccessful poll: the moment to look at the progress.

    Raises:
        NotReadyError: The time is up, or the server is healthy but wrong.
    """
    started_s = clock.now_s()
    try:
        async with asyncio.timeout(timeout_s):
            while not await _healthy(target):
                on_poll()
                elapsed_s = clock.now_s() - started_s
                await asyncio.sleep(min(SLOWEST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * elapsed_s)))
            await _prove(target, timeout_s)
    except TimeoutError:
        raise NotReadyError(f"load_timeout: not ready after {timeout_s:g} s") from None
    except StrangerError as error:
        raise StrangerThereError(f"port_taken: {error}") from error
    except ProbeError as error:
        raise NoOutputError(f"not_ready: healthy, but {error}") from error


async def _healthy(target: ProbeTarget) -> bool:
    try:
        answer = await ask(target, "GET", target.health_path, timeout_s=REQUEST_TIMEOUT_S)
    except ProbeError:
        return False
    return answer.status == 200


async def _prove(target: ProbeTarget, timeout_s: float) -> None:
    """The right name, then the first answer."""
    answer = await ask(target, "GET", "/v1/models", timeout_s=REQUEST_TIMEOUT_S)
    if answer.status in {401, 403}:
        raise WrongServerError("key_refused: the server does not take the key of {api_key_file}")
    names = _names(answer.json())
    if target.served_name not in names:
        raise WrongServerError(f"wrong_model: the server offers {', '.join(sorted(names)) or 'nothing'}")
    answer = await _smallest_request(target, timeout_s)
    if not _has_output(target, answer):
        what = _NO_OUTPUT.get(target.kind, "no_token")
        raise NoOutputError(f"{what}: status {answer.status}", answer.words() if answer.status != 200 else "")


def _names(models: Any) -> set[str]:
    entries = models.get("data", []) if isinstance(models, dict) else []
    return {str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry}


async def _smallest_request(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    """The answer to the smallest question there is."""
    return await _QUESTIONS.get(target.kind, _generate)(target, timeout_s)


async def _embed(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "input": "a"}
    return await ask(target, "POST", "/v1/embeddings", body=body, timeout_s=timeout_s)


async def _rank(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "query": "a", "documents": ["a"]}
    return await ask(target, "POST", "/v1/rerank", body=body, timeout_s=timeout_s)


async def _generate(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    """One token through the plain completion endpoint, which costs the least; through the chat where that is absent."""
    answer = await _complete(target, timeout_s)
    return await _chat(target, timeout_s) if answer.status in _NOT_THERE and target.kind == "chat" else answer


async def _complete(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "max_tokens": 1, "prompt": "a"}
    return await ask(target, "POST", "/v1/completions", body=body, timeout_s=timeout_s)


async def _chat(target: ProbeTarget, timeout_s: float) -> ProbeAnswer:
    body = {"model": target.served_name, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]}
    return await ask(target, "POST", "/v1/chat/completions", body=body, timeout_s=timeout_s)


def _has_output(target: ProbeTarget, answer: ProbeAnswer) -> bool:
    if answer.status != 200:
        return False
    return _SEEN.get(target.kind, _generated)(answer.json())


def _embedded(document: Any) -> bool:
    vectors = document.get("data") if isinstance(document, dict) else None
    return bool(vectors and vectors[0].get("embedding"))


def _ranked(document: Any) -> bool:
    ranks = document.get("results") if isinstance(document, dict) else None
    first = ranks[0] if isinstance(ranks, list) and ranks else None
    score = first.get("relevance_score") if isinstance(first, dict) else None
    return isinstance(score, int | float)


_QUESTIONS = {"embedding": _embed, "rerank": _rank}
_SEEN = {"embedding": _embedded, "rerank": _ranked}
_NO_OUTPUT = {"embedding": "no_embedding", "rerank": "no_ranking"}


def _generated(document: Any) -> bool:
    """Whether a token was generated: counted by the server where it counts, seen in the text where not."""
    if not isinstance(document, dict) or not document.get("choices"):
        return False
    counted = (document.get("usage") or {}).get("completion_tokens")
    if counted is not None:
        return bool(counted)
    choice = document["choices"][0]
    return bool(choice.get("text") or (choice.get("message") or {}).get("content"))


async def wait_unresponsive(target: ProbeTarget, *, interval_s: float, timeout_s: float, failures: int) -> str:
    """Probe a ready server until it has failed to answer so many times in a row; answers what went wrong.

    A hung server is noticed after at most ``failures * (interval_s + timeout_s)`` seconds, a stranger in its place at
    the next probe.
    """
    missed = 0
    while True:
        await asyncio.sleep(interval_s)
        try:
            answer = await ask(target, "GET", target.health_path, timeout_s=timeout_s)
            trouble = "" if answer.status == 200 else f"health says {answer.status}"
        except StrangerError as error:
            return str(error)
        except ProbeError as error:
            trouble = str(error)
        missed = missed + 1 if trouble else 0
        if missed >= failures:
            return trouble


async def find_useless(target: ProbeTarget, *, patience_s: float, worked_s: Callable[[], float | None]) -> str:
    """Ask a server that is doubted for one token; answers why it is of no use, or nothing where that is not proved.

    1. An answer below 500, or one about something else than the model: it is alive.
    2. An error, or no answer that is one, and so in another way a moment later: it serves nobody.
    3. Silence, and its processes did next to nothing meanwhile: it hangs.
    4. Silence, and they work, or nobody can tell: it may be busy with somebody's long request. Nothing is proved.

    Args:
        target: The server.
        patience_s: For the token, seconds.
        worked_s: Processor time of its processes so far, seconds; None where nobody can tell.
    """
    began_s = worked_s()
    try:
        trouble = await _trouble_with(_usual_way(target), target, patience_s)
        if trouble:
            await asyncio.sleep(SECOND_TRY_S)
            trouble = await _trouble_with(_smallest_request, target, patience_s)  # 1, 2
    except ProbeSilentError:
        ended_s = worked_s()
        if began_s is None or ended_s is None or ended_s - began_s >= IDLE_SHARE * patience_s:  # 4
            return ""
        return f"no token within {patience_s:g} s, and its processes did nothing meanwhile"  # 3
    except StrangerError as error:
        return str(error)
    return trouble


Way = Callable[[ProbeTarget, float], Awaitable[ProbeAnswer]]


def _usual_way(target: ProbeTarget) -> Way:
    """How clients ask this kind of model; the probe of readiness goes the cheapest way."""
    return _chat if target.kind == "chat" else _smallest_request


async def _trouble_with(way: Way, target: ProbeTarget, patience_s: float) -> str:
    try:
        answer = await way(target, patience_s)
    except ProbeSilentError:
        raise
    except ProbeError as error:
        return str(error)
    if answer.status < 500 or answer.status in NOT_ABOUT_THE_MODEL:
        return ""
    return f"it answers {answer.status} to everything: {answer.words()}"
