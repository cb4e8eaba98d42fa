"""What the scheduler last saw, in the words of the HTTP API."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass

from broker.api.pool import explanation
from broker.api.services import PoolPicture
from broker.api.views import Outlook
from broker.core.lease import LeaseRecord
from broker.gateway.exchange.settings import Prospect
from broker.policy.settings import PolicySettings
from broker.scheduling.forecasts import Forecasts
from broker.scheduling.scheduler import Scheduler
from schemas.http.api import Explanation


@dataclass(frozen=True, slots=True)
class SchedulerPicture:
    """Tells what the scheduler last saw; every answer is of the moment it is asked for."""

    scheduler: Scheduler
    policy: PolicySettings
    forecasts: Forecasts

    def picture(self) -> PoolPicture | None:
        """Return the last look at the pool; None before the first."""
        last = self.scheduler.last
        if last is None:
            return None
        return PoolPicture(snapshot=last.snapshot, plan=last.plan, age_s=time.monotonic() - last.at_s)

    def outlook(self, record: LeaseRecord) -> Outlook:
        """Return what a ticket may expect, seconds; without a forecast only why it waits."""
        seen = self.forecasts.of(record)
        if seen is None:
            return Outlook()
        return Outlook(eta_s=seen.eta_s, low_s=seen.low_s, high_s=seen.high_s, wait_reason=seen.wait_reason)

    def explain(self, record: LeaseRecord) -> Awaitable[Explanation]:
        """Explain why a lease waits, from the last picture of the pool."""
        return explanation.explain(record, self.picture(), self.outlook(record), self.policy)

    def prospect(self, record: LeaseRecord) -> Prospect:
        """Return what the data path is told about a ticket's future."""
        return explanation.prospect(record, self.picture(), self.outlook(record))
