"""How a model stands, for people and programs that look at the pool.

Trust in it, and why; what its server died of; how fast it answers.
"""

from dataclasses import dataclass, field

from broker.core.lease import ModelName
from broker.gateway.exchange.context import GatewayContext
from broker.gateway.trust.suspicion import Trust
from broker.routing.speeds import Speed


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStanding:
    """Of one model, as this broker has seen it."""

    trust: str = Trust.TRUSTED.value
    """A word of ``Trust``; ``suspect`` also where only some requests are refused."""
    reason: str = ""
    """In words, without anybody's name; empty: there is nothing to be said."""
    deaths: int = 0
    """Of its server at work, within the last hour."""
    deaths_on: tuple[str, ...] = ()
    """The slot of each."""
    banned: tuple[str, ...] = ()
    """Kinds of requests that it is not sent, in words."""
    speed: Speed = field(default_factory=Speed)
    """How fast it has answered lately."""


def standing_of(context: GatewayContext, model: ModelName, now_s: float) -> ModelStanding:
    """How it stands now; ``now_s`` is loop time."""
    state = context.reputations.of(model).state
    deaths, bans = context.deaths.deaths(model, now_s), context.deaths.bans(model, now_s)
    reasons = [context.reputations.why(model)]
    died = context.deaths.words(model, now_s)
    if not died or not reasons[0].startswith("its server died"):
        reasons.append(died)
    return ModelStanding(
        trust=(Trust.SUSPECT if bans and state is Trust.TRUSTED else state).value,
        reason="; ".join(reason for reason in reasons if reason),
        deaths=len(deaths),
        deaths_on=tuple(death.slot for death in deaths),
        banned=tuple(ban.culprit.words() for ban in bans),
        speed=context.accounts.speeds.of(model, now_s) or Speed(),
    )
