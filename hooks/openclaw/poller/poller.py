"""The loop: look, plan, publish. Whatever fails is said once, and tried again in the next period."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from hooks.openclaw.poller.activity import PublishPlan, Reading, SessionWatch
from hooks.openclaw.poller.publishing.port import Publisher, PublishError
from hooks.openclaw.poller.sources.port import Source, SourceError, UnsupportedError

log = logging.getLogger("hotseat.poller")


class TickFailure(Enum):
    """What went wrong in one tick; the values are exit statuses of ``--once``."""

    NONE = 0
    PUBLISH = 3
    SOURCE = 4
    UNSUPPORTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one look came to.

    Attributes:
        refused: Models that the broker does not keep warm for us, and why; the others are kept warm.
    """

    trouble: TickFailure
    reading: Reading | None = None
    plan: PublishPlan | None = None
    why: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)


class Poller:
    """One source, one publisher, one memory of what was seen.

    Args:
        publisher: None publishes nothing: a dry run.
        clock: Steady seconds.
    """

    def __init__(
        self, source: Source, publisher: Publisher | None, watch: SessionWatch, *, clock: Callable[[], float]
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._watch = watch
        self._clock = clock
        self._said: dict[str, str] = {}

    def tick(self) -> Tick:
        """Look once and publish what follows from it. Nothing is published from what could not be read."""
        try:
            reading = self._source.read()
        except UnsupportedError as error:
            return self._failed(TickFailure.UNSUPPORTED, "source_unsupported", error)
        except SourceError as error:
            return self._failed(TickFailure.SOURCE, "source_unreadable", error)
        self._say("source_partly_unreadable", "; ".join(reading.faults))
        self._well("source_unsupported", "source_unreadable")
        plan = self._watch.plan(reading, self._clock())
        try:
            self._publish(plan)
        except PublishError as error:
            failed = self._failed(TickFailure.PUBLISH, "not_published", error)
            return Tick(trouble=failed.trouble, reading=reading, plan=plan, why=failed.why)
        self._well("not_published")
        refused = dict(self._publisher.refused()) if self._publisher and plan.renew else {}
        trouble = TickFailure.PUBLISH if refused else TickFailure.NONE
        return Tick(trouble=trouble, reading=reading, plan=plan, refused=refused)

    def run(self, wait: Callable[[], bool]) -> None:
        """Tick until ``wait``, which lets a period pass, answers that it is time to end. Leases are left to lapse."""
        while True:
            self.tick()
            if wait():
                return

    def close(self) -> None:
        """Let go of the connections of source and publisher."""
        self._source.close()
        if self._publisher is not None:
            self._publisher.close()

    def _publish(self, plan: PublishPlan) -> None:
        if self._publisher is None:
            return
        now_s = self._clock()
        for warm in self._publisher.release(plan.release):
            self._watch.released(warm)
        for warm in self._publisher.renew(plan.renew):
            self._watch.published(warm, now_s)
        if plan.renew or plan.release:
            refused = sum(warm.model in self._publisher.refused() for warm in plan.renew)
            counts = {"kept": plan.kept, "renewed": len(plan.renew) - refused, "released": len(plan.release)}
            log.info("leases_published", extra=counts)

    def _failed(self, trouble: TickFailure, event: str, error: Exception) -> Tick:
        self._say(event, str(error))
        return Tick(trouble=trouble, why=str(error))

    def _say(self, event: str, why: str) -> None:
        """Log a problem when it begins or changes, not in every period."""
        if why and self._said.get(event) != why:
            log.warning(event, extra={"why": why})
        if why:
            self._said[event] = why
        else:
            self._well(event)

    def _well(self, *events: str) -> None:
        for event in events:
            if self._said.pop(event, None) is not None:
                log.info("recovered", extra={"from": event})


@contextmanager
def closing(poller: Poller) -> Iterator[Poller]:
    """Close the poller at the end, whatever happens in between."""
    try:
        yield poller
    finally:
        poller.close()
