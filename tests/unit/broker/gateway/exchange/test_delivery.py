"""What the client of an attempt hears, without a socket and whoever answers: keepalives, pieces, or an error."""

import asyncio

import pytest

from broker.answers.schema.check import Contract
from broker.answers.verdict import ExpectedAnswer, Shape
from broker.gateway.exchange.contract import BrokenTryError, Strict
from broker.gateway.exchange.delivery import Delivery, Terms, UselessAnswerError
from broker.gateway.exchange.keepalives import Keepalives
from broker.gateway.requests.patience import PatienceLimits
from broker.http_client.errors import BrokenAnswerError
from broker.protocol.error_bodies import ClientError, ClientFacingError
from tests.fakes.broker_scene import until
from tests.fakes.exchange_scene import BODY, Outgoing, progress_of

JSON, EVENTS = [(b"content-type", b"application/json")], [(b"content-type", b"text/event-stream")]
SAID = b'{"choices": [{"message": {"content": "hello"}}]}'
EMPTY = b'{"choices": [{"message": {"content": ""}}]}'
WORD = b'data: {"choices": [{"delta": {"content": "4"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STREAM = BODY[:-1] + b', "stream": true}'


class Source:
    """An answer whose pieces are known."""

    def __init__(self, *pieces, status=200, headers=JSON, before=None) -> None:
        self.pieces, self.status, self.headers, self.before = list(pieces), status, headers, before

    async def read(self, timeout_s):
        if self.before is not None:
            await self.before()
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def read_all(self, timeout_s):
        piece = await self.read(timeout_s)
        return [piece] if piece else []

    async def has_news(self, within_s):
        return True


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told, self.verdicts = [], []

    def came(self, answer, piece):
        self.told.append("came")

    def begun(self):
        self.told.append("begun")

    def lives(self):
        self.told.append("lives")

    def judged(self, verdict, asked_s):
        self.told.append("judged")
        self.verdicts.append(verdict)

    async def unfit(self, answer, piece):
        return ClientFacingError(ClientError(code="upstream_error", message=f"it answered {answer.status}"))


class Scene:
    """One try."""

    def __init__(self, *, tries_left=1, follows=range(200, 201), limits=None, **more) -> None:
        self.out, self.listener = Outgoing(), Listener()
        limits = limits or PatienceLimits()
        self.progress = progress_of(self.out, limits=limits, **more)
        self.keepalives = Keepalives(self.progress, limits)
        self.terms = Terms(
            expected=ExpectedAnswer(shape=Shape.CHAT), tries_left=tries_left, first_s=9.0, stall_s=9.0, head_s=9.0,
            follows=follows,
        )  # fmt: skip

    async def run(self, source):
        try:
            await Delivery(self.progress, self.keepalives, self.terms, self.listener).run(source)
        finally:
            self.keepalives.abort()

    @property
    def statuses(self):
        return [message["status"] for message in self.out.messages if "status" in message]


async def test_an_answer_goes_out_as_it_came_and_its_listener_hears_of_it_in_order():
    scene = Scene()
    await scene.run(Source(SAID[:20], SAID[20:]))
    assert (scene.statuses, scene.out.body) == ([200], SAID)
    told = [word for word in scene.listener.told if word != "lives"]
    assert told == ["came", "judged", "begun"]


async def test_what_its_listener_takes_for_no_answer_is_none():
    scene = Scene()

    def came(answer, piece):
        raise BrokenAnswerError("nothing")

    scene.listener.came = came
    with pytest.raises(BrokenAnswerError):
        await scene.run(Source())
    assert (scene.out.messages, scene.listener.told) == ([], [])


async def test_a_useless_answer_is_thrown_away_while_tries_are_left_and_goes_out_when_none_is():
    thrown, last = Scene(), Scene(tries_left=0)
    with pytest.raises(UselessAnswerError):
        await thrown.run(Source(EMPTY))
    assert thrown.out.messages == []
    await last.run(Source(EMPTY))
    assert last.out.body == EMPTY


async def test_an_error_goes_to_a_client_that_has_heard_nothing_in_its_envelope():
    scene = Scene()
    await scene.run(Source(b'{"error": {"message": "too long"}}', status=400))
    assert scene.statuses == [400]
    assert b"too long" in scene.out.body
    assert scene.progress.client.answered


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(Source(SAID), id="whole"),
        pytest.param(Source(b"no", status=500), id="an error"),
        pytest.param(Source(WORD, DONE, status=500, headers=EVENTS), id="a stream of an error"),
        pytest.param(Source(WORD, DONE, status=201, headers=EVENTS), id="a stream with a status that does not follow"),
    ],
)
async def test_a_stream_that_keepalives_have_begun_is_followed_by_no_other_answer(source):
    scene = Scene(body=STREAM)
    await scene.progress.commit()
    heard = len(scene.out.messages)
    with pytest.raises(ClientFacingError):
        await scene.run(source)
    assert (len(scene.out.messages), scene.progress.client.answered) == (heard, False)


@pytest.mark.parametrize("status", [200, 201, 206])
async def test_a_stream_goes_on_one_that_keepalives_have_begun_with_any_status_that_follows(status):
    scene = Scene(body=STREAM, follows=range(200, 300))
    await scene.progress.commit()
    await scene.run(Source(WORD, DONE, status=status, headers=EVENTS))
    assert scene.statuses == [200]
    assert scene.out.body.endswith(WORD + DONE)


@pytest.mark.parametrize("is_kept", [False, True], ids=["passed on", "kept to be checked"])
async def test_keepalives_go_out_until_the_first_piece_is_there_and_on_while_all_is_kept(is_kept):
    scene = Scene(body=STREAM, limits=PatienceLimits(commit_after_s=0.01, keepalive_s=0.01))
    if is_kept:
        scene.progress.strict = Strict(Shape.CHAT, Contract({"type": "integer"}), STREAM)
    sent, counts = scene.out.messages, []

    async def slowly():
        counts.append(len(sent))
        if is_kept or len(counts) == 1:
            await until(lambda: len(sent) > counts[-1] + 2)
        else:
            await asyncio.sleep(0.05)  # time for five

    scene.keepalives.start()
    await scene.run(Source(WORD, DONE, headers=EVENTS, before=slowly))
    first, *then = counts[1:]
    assert first > 2
    assert is_kept or then == [first + 1], "the piece alone"
    assert scene.out.body.endswith(WORD + DONE)


async def test_a_stream_that_breaks_its_schema_is_asked_for_again_and_nothing_of_it_went_out():
    scene = Scene(body=STREAM)
    scene.progress.strict = Strict(Shape.CHAT, Contract({"type": "string", "minLength": 9}), STREAM)
    with pytest.raises(BrokenTryError):
        await scene.run(Source(WORD, DONE, headers=EVENTS))
    assert scene.out.messages == []
