"""Asks a suspected model a test question, through a lease like everybody's.

Rule: one canary at a time in a process, with a pause after each, in the class background: it waits its turn, and while
it waits it proves nothing; only a model that was asked and did not answer well has failed.
"""

import asyncio
import logging

from broker.answers.canary import MAX_REFUSAL, Canary, Finding, canary_for, finding_of
from broker.answers.verdict import Verdict
from broker.answers.watcher import Watcher
from broker.core.errors import HotseatError
from broker.core.lease import LeaseRecord, LeaseState, ModelName, Priority
from broker.gateway.desk import Desk
from broker.gateway.headers import to_the_model
from broker.gateway.holding import Given
from broker.gateway.reputations import LOCAL
from broker.leasing import Wish
from broker.principals import Principal, Scope
from broker.upstream.errors import UpstreamError
from broker.upstream.pool import Request

log = logging.getLogger("hotseat.gateway")

CALLER = Principal(name="broker:canary", scopes=frozenset({Scope.LEASE}))
SESSION = "canary"
TICK_S = 0.5
"""How often it is looked whether one is due."""
WAIT_S = 60.0
"""So long a canary stands in line; then it leaves it for as long."""


class Canaries:
    """The canaries of one process."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._task: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Test one model if one is due; does its own waiting."""
        model = self._desk.reputations.due(asyncio.get_running_loop().time())
        if model is None:
            await asyncio.sleep(TICK_S)
            return
        self._task = asyncio.get_running_loop().create_task(self._test(model))
        await self._task
        await asyncio.sleep(self._desk.settings.canary_pause_s)

    async def stop(self) -> None:
        """Give back what it holds; there are no canaries any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _test(self, model: ModelName) -> None:
        desk, loop = self._desk, asyncio.get_running_loop()
        wish = Wish(session=SESSION, model=model, priority=Priority.BACKGROUND, holder=f"canary:{desk.settings.broker}")
        request = desk.leasing.request_of(CALLER, wish)
        given = Given(request.lease_id, request.nonce, CALLER)
        try:
            record = await desk.leasing.acquire(CALLER, request)
            given = Given(record.lease_id, record.nonce, CALLER)
            if record.state is LeaseState.QUEUED:
                record = await desk.leasing.wait(record.lease_id, WAIT_S, loop.create_future())
            if record.state is LeaseState.ACTIVE:
                await self._with_lease(record)
            else:
                log.info("canary_put_off", extra={"model": model, "reason": record.reason or record.state})
                desk.reputations.put_off(model, loop.time() + WAIT_S)
        except HotseatError as error:
            log.info("canary_put_off", extra={"model": model, "reason": error.code})
            desk.reputations.put_off(model, loop.time() + WAIT_S)
        finally:
            desk.holds.give_back(given, lambda: None)

    async def _with_lease(self, record: LeaseRecord) -> None:
        desk, loop = self._desk, asyncio.get_running_loop()
        hold = desk.holds.take(record, CALLER, lambda: None)
        try:
            if desk.reputations.canary_sent(record.model, loop.time()):
                asked_s = loop.time()
                finding, verdict = await self._ask(record)
                if verdict is not None:
                    desk.accounts.answers.judged(LOCAL, record.model, verdict, asked_s)
                desk.reputations.canary_answered(record.model, finding, verdict, loop.time())
        finally:
            desk.holds.drop(hold)

    async def _ask(self, record: LeaseRecord) -> tuple[Finding, Verdict | None]:
        """What it shows, and the verdict; None: no answer in time."""
        settings = self._desk.settings
        served = settings.served_names.get(record.model) or record.model
        canary = canary_for(settings.kinds.get(record.model, "chat"), served, names=(served, record.model))
        try:
            async with asyncio.timeout(settings.suspicion.canary_timeout_s):
                return await self._answer_to(canary, record)
        except (UpstreamError, TimeoutError):
            return Finding.FAILED, None

    async def _answer_to(self, canary: Canary, record: LeaseRecord) -> tuple[Finding, Verdict]:
        upstreams, loop = self._desk.upstreams, asyncio.get_running_loop()
        headers = to_the_model([(b"content-type", b"application/json")], record.api_key)
        request = Request(method="POST", path=canary.path, headers=headers, body=canary.body)
        answer = await upstreams.ask(record.base_url, request)
        try:
            watcher = Watcher(canary.expected)
            watcher.begin(answer.status, answer.headers, loop.time())
            refusal = b""
            while piece := await answer.read(upstreams.timing.stall_s):
                watcher.feed(piece, loop.time())
                refusal += piece[: MAX_REFUSAL - len(refusal)]
            verdict = watcher.end(loop.time())
            return finding_of(answer.status, refusal, verdict), verdict
        finally:
            answer.close()
