"""Requests to ``/v1`` without a socket: who asks, what goes out, and candidates whose servers say what a test wants."""

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry

from broker.access.principals import Principal, Scope
from broker.accounting.answers import AnswerAccounts
from broker.accounting.daily_counts import DailyCounts
from broker.core.lease import ModelName, Priority
from broker.gateway.exchange.attempt import Attempt, AttemptTurn
from broker.gateway.exchange.call import Call
from broker.gateway.exchange.candidates import Candidate, Listed
from broker.gateway.exchange.progress import Progress
from broker.gateway.requests.conversations import Sightings
from broker.gateway.requests.identity import asked_of, identify
from broker.gateway.requests.patience import PatienceLimits
from broker.http_client.answer import Answer
from broker.http_client.connection_pool import Request, Timing
from broker.protocol.client_side import ClientSide
from broker.protocol.endpoints import ENDPOINTS
from broker.protocol.profiles import Profile
from broker.routing.fallback import FailedTry, RetryRule
from broker.store.memory.store import MemoryStore

CALLER = Principal(name="anonymous", scopes=frozenset({Scope.LEASE}))
BODY = b'{"model": "a", "messages": [{"role": "user", "content": "hi"}]}'


def answer_accounts() -> AnswerAccounts:
    """Series that nobody reads."""
    days = MemoryStore(clock=lambda: 0.0).days
    book = DailyCounts(days, source="x", every_s=1.0, kept_s=1.0, unix_s=lambda: 0.0)
    return AnswerAccounts(CollectorRegistry(), book)


class Outgoing:
    """What a client is sent."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.has_closed = False

    async def send(self, message: dict[str, object]) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        pieces = [
            piece for message in self.messages for piece in (*message.get("pieces", ()), message.get("body", b""))
        ]  # type: ignore[misc,attr-defined]
        return b"".join(pieces)


def call_of(body: bytes = BODY, **more: object) -> Call:
    """A request for ``a`` as it is read."""
    now_s = asyncio.get_running_loop().time()
    asked = asked_of(body, b"application/json", None, {})
    identity = identify({}, asked, (CALLER.name, "127.0.0.1"), Sightings(), "f" * 20, None)
    plain: dict[str, object] = {
        "caller": CALLER, "endpoint": ENDPOINTS[0], "headers": {}, "target": "/chat/completions", "body": body,
        "asked": asked, "identity": identity, "priority": Priority.NORMAL, "profile": Profile.OPENAI,
        "limits": PatienceLimits(), "fingerprint": "f" * 20, "started_s": now_s, "created_s": 0,
    }  # fmt: skip
    return Call(**plain | more)  # type: ignore[arg-type]


def progress_of(outgoing: Outgoing | None = None, **more: object) -> Progress:
    """A request of which nothing is done yet."""
    out = outgoing or Outgoing()
    return Progress(call=call_of(**more), client=ClientSide(out.send, lambda: out.has_closed))  # type: ignore[arg-type]


def listed(*models: str) -> Listed:
    return Listed(Candidate(model=ModelName(model), reason=f"choice-{model}") for model in models)


Step = Exception | Callable[["ScriptedAttempt"], object] | None
"""What one try does: fails so, does something and fails or not, or has answered (None)."""


class ScriptedAttempt(Attempt):
    """A third kind of candidate, beside the pool's and upstreams': each try does the next step of its script."""

    def __init__(self, turn: AttemptTurn, steps: Iterable[Step], rule: RetryRule | None = None) -> None:
        super().__init__(turn, answer_accounts(), rule or RetryRule(first_s=0.0))
        self.steps = list(steps)
        self.asked = 0
        self.pauses_s: list[float] = []
        self.is_next_better = False

    async def _ask(self, tried: int) -> None:
        step = self.steps[self.asked]
        self.asked += 1
        done = step(self) if callable(step) else step
        if asyncio.iscoroutine(done):
            done = await done
        try:
            if isinstance(done, Exception):
                raise done
        finally:
            del step, done  # an error that its own frame holds lives until a collection
        self.turn.progress.client.answered = True

    async def _prepare_retry(self, failure: FailedTry, pause_s: float) -> bool:
        self.pauses_s.append(pause_s)
        return await self.turn.plan.still_wants(self.turn.candidate)

    def _is_next_better(self) -> bool:
        return self.is_next_better

    @property
    def turn(self) -> AttemptTurn:
        return self._turn


def whole(body: bytes, status: int = 200) -> bytes:
    """An answer as it comes over the wire."""
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


class Carrier:
    """A connection without a wire."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""

    def release(self, answer: Answer) -> None:
        """There is nothing to keep."""


class Servers:
    """What model servers say to one question after the other: bytes and then the end, or an error, or nothing yet."""

    def __init__(self, *said: bytes | Exception | None) -> None:
        self.timing, self.said = Timing(), list(said)
        self.asked: list[bytes] = []
        self.is_asked = asyncio.Event()

    async def ask(self, base_url: str, request: Request) -> Answer:
        self.asked.append(bytes(request.body))
        self.is_asked.set()
        said = self.said.pop(0)
        if said is None:
            await asyncio.Event().wait()
        if isinstance(said, Exception):
            raise said
        answer = Answer(Carrier())
        answer.feed(said)
        answer.ended()
        await answer.head(1.0)
        return answer

    def close(self) -> None:
        """There are no connections."""
