"""Slots and residencies: states, events, tables."""

from enum import StrEnum

from schemas.residency import Residency


class SlotState(StrEnum):
    """May this slot be used?"""

    OFFLINE = "offline"
    """Its worker is silent."""
    RECOVERING = "recovering"
    """The store was restarted; its worker has not registered with this incarnation yet."""
    OPEN = "open"
    CORDONED = "cordoned"
    """No new grants (operator)."""
    DRAINING = "draining"
    """No new grants, models are unloaded once their leases end (operator)."""
    QUARANTINED = "quarantined"
    """Cordoned by a fault the worker reports."""


class SlotEvent(StrEnum):
    """What can happen to a slot."""

    REGISTER = "register"
    SILENCE = "silence"
    DISTRUST = "distrust"
    """Its worker's report is unsound."""
    RECOVER = "recover"
    CORDON = "cordon"
    DRAIN = "drain"
    UNCORDON = "uncordon"
    FAULT = "fault"
    HEAL = "heal"


_S, _E = SlotState, SlotEvent

SLOT_TRANSITIONS: dict[SlotState, dict[SlotEvent, SlotState]] = {
    _S.OFFLINE: {_E.REGISTER: _S.OPEN},
    _S.RECOVERING: {_E.REGISTER: _S.OPEN, _E.SILENCE: _S.OFFLINE, _E.DISTRUST: _S.OFFLINE, _E.RECOVER: _S.RECOVERING},
    _S.OPEN: {
        _E.REGISTER: _S.OPEN,
        _E.SILENCE: _S.OFFLINE,
        _E.DISTRUST: _S.OFFLINE,
        _E.RECOVER: _S.RECOVERING,
        _E.CORDON: _S.CORDONED,
        _E.DRAIN: _S.DRAINING,
        _E.FAULT: _S.QUARANTINED,
    },
    _S.CORDONED: {
        _E.REGISTER: _S.CORDONED,
        _E.SILENCE: _S.OFFLINE,
        _E.DISTRUST: _S.OFFLINE,
        _E.RECOVER: _S.RECOVERING,
        _E.DRAIN: _S.DRAINING,
        _E.UNCORDON: _S.OPEN,
        _E.FAULT: _S.QUARANTINED,
    },
    _S.DRAINING: {
        _E.REGISTER: _S.DRAINING,
        _E.SILENCE: _S.OFFLINE,
        _E.DISTRUST: _S.OFFLINE,
        _E.RECOVER: _S.RECOVERING,
        _E.CORDON: _S.CORDONED,
        _E.UNCORDON: _S.OPEN,
        _E.FAULT: _S.QUARANTINED,
    },
    _S.QUARANTINED: {
        _E.REGISTER: _S.QUARANTINED,
        _E.SILENCE: _S.OFFLINE,
        _E.DISTRUST: _S.OFFLINE,
        _E.RECOVER: _S.RECOVERING,
        _E.HEAL: _S.OPEN,
        _E.UNCORDON: _S.OPEN,
    },
}
"""Silence and recovery lose an operator's cordon or drain; ``slot.wish`` keeps it, and it is applied again after
``REGISTER``."""


class ResidencyEvent(StrEnum):
    """What can happen to a model on a slot."""

    ORDER = "order"
    BECOME_READY = "become_ready"
    FAIL = "fail"
    WITHDRAW = "withdraw"
    DIE = "die"
    VANISH = "vanish"


_R, _V = Residency, ResidencyEvent

RESIDENCY_TRANSITIONS: dict[Residency, dict[ResidencyEvent, Residency]] = {
    _R.ABSENT: {_V.ORDER: _R.LOADING},
    _R.LOADING: {
        _V.BECOME_READY: _R.READY,
        _V.FAIL: _R.UNLOADING,
        _V.WITHDRAW: _R.UNLOADING,
        _V.VANISH: _R.ABSENT,
    },
    _R.READY: {_V.WITHDRAW: _R.UNLOADING, _V.DIE: _R.UNLOADING, _V.VANISH: _R.ABSENT},
    _R.UNLOADING: {_V.VANISH: _R.ABSENT},
}
"""Has the states that the store knows; what a worker calls ``failed`` unloads. A failed or dead model goes through
``unloading``: its memory counts until the worker says that it is back."""


class Failing(StrEnum):
    """What is known of the next load of a model that failed on a slot (words of ``schemas.messages.FailureKind``)."""

    PERMANENT = "permanent"
    """It cannot load until its entry, its program or one of its files changes."""
    PASSING = "passing"
    ROOM = "room"
    """It died, or ran out of memory, beside others: the next load gets the room of what is idle there."""
    HOST = "host"
    """The host's doing: never held against the model."""
    USELESS = "useless"
    """It was ready and did nothing for anybody."""
    UNSOUND = "unsound"
    """Its worker sees that it cannot be started (no such program or file): not even tried."""


PROVED = frozenset({Failing.USELESS, Failing.ROOM})
"""Falls of a ready server that are proved faults of it, not accidents: the second one in a row is given up."""


def next_slot_state(state: SlotState, event: SlotEvent) -> SlotState | None:
    """Follow the table; ``None`` when there is no such arrow."""
    return SLOT_TRANSITIONS[state].get(event)


def next_residency(state: Residency, event: ResidencyEvent) -> Residency | None:
    """Follow the table; ``None`` when there is no such arrow."""
    return RESIDENCY_TRANSITIONS[state].get(event)
