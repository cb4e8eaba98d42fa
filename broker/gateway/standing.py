"""How a model stands, for people and programs that look at the pool: trust in it, why, and what its server died of."""

from dataclasses import dataclass

from broker.answers.suspicion import Trust
from broker.core.lease import ModelName
from broker.gateway.desk import Desk


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
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


def standing_of(desk: Desk, model: ModelName, now_s: float) -> Standing:
    """How it stands now; ``now_s`` is loop time."""
    state = desk.reputations.of(model).state
    deaths, bans = desk.deaths.deaths(model, now_s), desk.deaths.bans(model, now_s)
    reasons = [desk.reputations.why(model)]
    died = desk.deaths.words(model, now_s)
    if not died or not reasons[0].startswith("its server died"):
        reasons.append(died)
    return Standing(
        trust=(Trust.SUSPECT if bans and state is Trust.TRUSTED else state).value,
        reason="; ".join(reason for reason in reasons if reason),
        deaths=len(deaths),
        deaths_on=tuple(death.slot for death in deaths),
        banned=tuple(ban.culprit.words() for ban in bans),
    )
