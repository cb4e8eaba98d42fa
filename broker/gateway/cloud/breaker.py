"""A circuit breaker for one upstream, as a table: it stops calls that would fail, and tries one now and then.

closed --fail (the last of several)--> open --its time is up--> half_open --fail--> open, for twice as long
half_open --success--> closed

Rule: one client's trouble is not the upstream's. What may be the request's doing counts in full for its session, which
has a breaker of its own, and only so far for everybody that two parties must agree.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from broker.gateway.trust.testimony import RequestSource

MAX_OWN = 4096
"""Sessions' own breakers that are remembered; the one not used for longest goes first."""


class BreakerState(StrEnum):
    """May the upstream be called?"""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """One call is out to see."""


class BreakerEvent(StrEnum):
    """What happens to it."""

    SUCCESS = "success"
    FAIL = "fail"
    PROBE = "probe"


TRANSITIONS: dict[BreakerState, dict[BreakerEvent, BreakerState]] = {
    BreakerState.CLOSED: {
        BreakerEvent.SUCCESS: BreakerState.CLOSED,
        BreakerEvent.FAIL: BreakerState.OPEN,
    },
    BreakerState.OPEN: {
        BreakerEvent.SUCCESS: BreakerState.CLOSED,
        BreakerEvent.FAIL: BreakerState.OPEN,
        BreakerEvent.PROBE: BreakerState.HALF_OPEN,
    },
    BreakerState.HALF_OPEN: {
        BreakerEvent.SUCCESS: BreakerState.CLOSED,
        BreakerEvent.FAIL: BreakerState.OPEN,
        BreakerEvent.PROBE: BreakerState.HALF_OPEN,
    },
}
"""A fail opens a closed breaker only as the last of ``failures``. A late answer of a call from before counts as any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRule:
    """When it opens and for how long."""

    failures: int = 5
    """In a row."""
    open_s: float = 15.0
    """The first time, seconds; doubles with each probe that fails."""
    longest_s: float = 300.0
    """At most, seconds."""
    probe_s: float = 60.0
    """A probe that nothing was heard of for so long is taken for lost: the next one may go, seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One upstream's. Every method gives a new one; clocks are passed in."""

    rule: BreakerRule = BreakerRule()
    state: BreakerState = BreakerState.CLOSED
    failed: int = 0
    """In a row."""
    opened: int = 0
    """Times in a row that it opened."""
    until_s: float = 0.0
    """Open: until then. Half open: when the probe is lost."""

    def allows(self, now_s: float) -> bool:
        """May a call go out? Where the breaker is not closed, ``begin`` must be called with it."""
        return self.state is BreakerState.CLOSED or now_s >= self.until_s

    def begin(self, now_s: float) -> "Breaker":
        """A call goes out: with a breaker that is not closed it is the probe, and the only one."""
        if self.state is BreakerState.CLOSED or not self.allows(now_s):
            return self
        return self._to(BreakerEvent.PROBE, until_s=now_s + self.rule.probe_s)

    def succeed(self) -> "Breaker":
        """The upstream answered, to the end."""
        return self._to(BreakerEvent.SUCCESS, until_s=0.0, failed=0, opened=0)

    def heard(self) -> "Breaker":
        """An answer has begun: whoever waits for a probe need not. Its failures are forgotten when it is whole."""
        if self.state is not BreakerState.HALF_OPEN:
            return self
        return self._to(BreakerEvent.SUCCESS, until_s=0.0)

    def fail(self, now_s: float) -> "Breaker":
        """It did not, or said that it cannot."""
        failed = self.failed + 1
        if self.state is BreakerState.CLOSED and failed < self.rule.failures:
            return replace(self, failed=failed)
        if self.state is BreakerState.OPEN:
            return replace(self, failed=failed)
        pause_s = min(self.rule.open_s * 2.0 ** min(self.opened, 30), self.rule.longest_s)
        return self._to(BreakerEvent.FAIL, until_s=now_s + pause_s, failed=failed, opened=self.opened + 1)

    def _to(
        self, event: BreakerEvent, *, until_s: float, failed: int | None = None, opened: int | None = None
    ) -> "Breaker":
        return replace(
            self,
            state=TRANSITIONS[self.state][event],
            until_s=until_s,
            failed=self.failed if failed is None else failed,
            opened=self.opened if opened is None else opened,
        )


class Breakers:
    """Those of all upstreams, in one process's memory: every process finds out by itself."""

    def __init__(self, upstreams: Iterable[str], rule: BreakerRule | None = None) -> None:
        """All closed."""
        self._rule = rule or BreakerRule()
        self._by_name = {name: Breaker(rule=self._rule) for name in upstreams}
        self._own: OrderedDict[tuple[str, RequestSource], Breaker] = OrderedDict()
        self._parts: dict[str, Counter[str]] = {name: Counter() for name in self._by_name}
        """How much each party has in the failures in a row."""

    def open(self, now_s: float, source: RequestSource | None = None) -> frozenset[str]:
        """Upstreams that are not to be called now, by this session: for ``State.open_breakers``."""
        return frozenset(name for name in self._by_name if not self._allows(name, now_s, source))

    def begin(self, upstream: str, now_s: float, source: RequestSource | None = None) -> bool:
        """A call is about to go out; False: it must not."""
        if not self._allows(upstream, now_s, source):
            return False
        self._by_name[upstream] = self._by_name[upstream].begin(now_s)
        if source is not None and (own := self._own.get((upstream, source))) is not None:
            self._own[upstream, source] = own.begin(now_s)
        return True

    def succeed(self, upstream: str, source: RequestSource | None = None) -> None:
        """The upstream answered, be it with a 4xx that is about the request."""
        self._by_name[upstream] = self._by_name[upstream].succeed()
        self._parts[upstream].clear()
        if source is not None:
            self._own.pop((upstream, source), None)

    def heard(self, upstream: str, source: RequestSource | None = None) -> None:
        """The upstream's answer has begun."""
        self._by_name[upstream] = self._by_name[upstream].heard()
        if source is not None and (own := self._own.get((upstream, source))) is not None:
            self._own[upstream, source] = own.heard()

    def fail(self, upstream: str, now_s: float, source: RequestSource | None = None) -> None:
        """It did not answer, or with 429, 5xx, or something of no use.

        Args:
            upstream: Which.
            now_s: By the clock of the other calls.
            source: Whose request that may be the doing of; None: nobody's.
        """
        if source is not None:
            own = self._own.pop((upstream, source), Breaker(rule=self._rule))
            self._own[upstream, source] = own.fail(now_s)
            if len(self._own) > MAX_OWN:
                self._own.popitem(last=False)
            parts = self._parts[upstream]
            if parts[source.party] >= (self._rule.failures + 1) // 2:
                return
            parts[source.party] += 1
        self._by_name[upstream] = self._by_name[upstream].fail(now_s)

    def _allows(self, upstream: str, now_s: float, source: RequestSource | None) -> bool:
        own = None if source is None else self._own.get((upstream, source))
        return self._by_name[upstream].allows(now_s) and (own is None or own.allows(now_s))
