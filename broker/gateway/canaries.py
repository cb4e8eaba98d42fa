"""Has a doubted model asked test questions, through a lease like everybody's.

Rule: one canary at a time in a process, with a pause after each, in the class background: it waits its turn, and while
it waits it proves nothing; only a model that was asked and did not answer well has failed. None that one party alone
called for loads a model: what nobody uses need not be tested. A canary that was begun has a result, whatever becomes of
it.
"""

import asyncio
import logging

from broker.access.principals import Principal, Scope
from broker.answers.verdict import Verdict, VerdictReason
from broker.core.errors import HotseatError
from broker.core.lease import LeaseRecord, LeaseState, ModelName, Priority
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.trust.canary import NEEDED_TO_CLEAR, NEEDED_TO_HEAL, Finding, questions_at, questions_for
from broker.gateway.trust.canary_call import CanaryCall, Examined
from broker.gateway.trust.death_watch import DIED
from broker.gateway.trust.deaths import Suspect
from broker.gateway.trust.reputations import LOCAL
from broker.gateway.trust.testimony import RequestSource
from broker.leasing.held_lease import GivenBack, Hold
from broker.leasing.service import Wish

log = logging.getLogger("hotseat.gateway")

CALLER = Principal(name="broker:canary", scopes=frozenset({Scope.LEASE}))
SESSION = "canary"
TICK_S = 0.5
"""How often it is looked whether one is due."""
WAIT_S = 60.0
"""So long a canary stands in line; then it leaves it for as long."""
ABSENT_S = 5.0
"""A model that need not be tested now, as it is not loaded, is looked at again after this."""


class _Passenger:
    """A canary, for who asks what was in flight."""

    def suspect(self) -> Suspect:
        """See ``flights.Passenger``."""
        return Suspect(source=RequestSource(party=CALLER.name, session=SESSION), request="")


class Canaries:
    """The canaries of one process."""

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._task: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Test one model if one is due; does its own waiting."""
        model = self._context.reputations.due(asyncio.get_running_loop().time())
        if model is None:
            await asyncio.sleep(TICK_S)
            return
        self._task = asyncio.get_running_loop().create_task(self._test(model))
        await self._task
        await asyncio.sleep(self._context.settings.canary_pause_s)

    async def stop(self) -> None:
        """Give back what it holds; there are no canaries any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _test(self, model: ModelName) -> None:
        context = self._context
        try:
            if context.reputations.of(model).may_be_left_alone and not await context.leasing.is_ready(model):
                context.reputations.put_off(model, asyncio.get_running_loop().time() + ABSENT_S)
            else:
                await self._in_line(model)
        except HotseatError as error:
            self._put_off(model, error.code)

    async def _in_line(self, model: ModelName) -> None:
        context, loop = self._context, asyncio.get_running_loop()
        holder = f"canary:{context.settings.broker}"
        given = None
        try:
            life = await context.life.now()
            wish = Wish(session=SESSION, model=model, priority=Priority.BACKGROUND, holder=holder, life=life)
            request = context.leasing.request_of(CALLER, wish)
            given = GivenBack(CALLER, request)
            record = await context.leasing.acquire(request)
            given = GivenBack(CALLER, request, record)
            if record.state is LeaseState.QUEUED:
                record = await context.leasing.wait(record.lease_id, WAIT_S, loop.create_future())
            if record.state is LeaseState.ACTIVE:
                await self._with_lease(record, given)
            else:
                self._put_off(model, record.reason or record.state)
        finally:
            if given is not None:
                context.holds.give_back(given)

    def _put_off(self, model: ModelName, reason: str) -> None:
        log.info("canary_put_off", extra={"model": model, "reason": reason})
        self._context.reputations.put_off(model, asyncio.get_running_loop().time() + WAIT_S)

    async def _with_lease(self, record: LeaseRecord, given: GivenBack) -> None:
        context, loop = self._context, asyncio.get_running_loop()
        hold = context.holds.take(record, given, lambda: None)
        shown = Examined(finding=Finding.VOID)
        context.deaths.flights.begin(record, _Passenger())
        try:
            if context.reputations.canary_sent(record.model, loop.time()):
                try:
                    shown = await self._examine(record, hold)
                finally:
                    context.reputations.canary_answered(record.model, shown.finding, shown.verdict, loop.time())
                if shown.verdict is not None and shown.verdict.reason is VerdictReason.SERVER_ERROR:
                    context.signs.suspect(record, "it answers the broker's own questions with errors")
        finally:
            context.deaths.flights.end(record)
            context.holds.drop(hold)

    async def _examine(self, record: LeaseRecord, hold: Hold) -> Examined:
        """The questions for its kind; where its server takes none of them, those for where it was doubted."""
        settings, model = self._context.settings, record.model
        served = settings.served_names.get(model) or model
        names = (served, model)
        reputations = self._context.reputations
        needed = NEEDED_TO_CLEAR if reputations.of(model).serves else NEEDED_TO_HEAL
        call = self._call(record)
        shown = await call.ask(questions_for(settings.kinds.get(model, "chat"), served, names=names), needed)
        if shown.finding is Finding.VOID and shown.verdict is not None:
            others = questions_at(reputations.doubted_at(model), served, names=names)
            shown = await call.ask(others, needed) if others else shown
        if shown.finding is Finding.SILENT and await self._has_ended(hold):
            return Examined(finding=Finding.FAILED if self._died_alone(hold) else Finding.VOID)
        return shown

    def _died_alone(self, hold: Hold) -> bool:
        """Did the server die under this canary and nobody else? Then it cannot be asked the least."""
        if DIED not in (hold.ended or ""):
            return False
        last = self._context.deaths.deaths(hold.record.model, asyncio.get_running_loop().time())[-1:]
        return all(one.source.party == CALLER.name for death in last for one in death.suspects)

    def _call(self, record: LeaseRecord) -> CanaryCall:
        context, settings = self._context, self._context.settings

        def judged(verdict: Verdict, asked_s: float) -> None:
            context.accounts.answers.judged(LOCAL, record.model, verdict, asked_s)

        async def has_company() -> bool:
            return await context.leasing.has_company(record)

        return CanaryCall(
            connections=context.connections,
            lease=record,
            timeout_s=settings.suspicion.canary_timeout_s,
            has_company=has_company,
            judged=judged,
        )

    async def _has_ended(self, hold: Hold) -> bool:
        """Did its lease end under it? A server that died is known to be dead a little later."""
        if hold.ended is None:
            known = asyncio.get_running_loop().create_future()
            hold.on_end = lambda: None if known.done() else known.set_result(None)
            await asyncio.wait({known}, timeout=self._context.settings.dead_server_s)
            hold.on_end = None
        return hold.ended is not None
