"""Small pictures for the policy: models ``a``, ``b``, ``c`` of which one fits on ``gpu0``, at store time 1000."""

from broker.core.lease import LeaseId, LeaseState, ModelName, Priority, SlotId
from broker.core.slot import SlotState
from broker.core.snapshot import ClassQueue, LeaseView, ModelView, ResidencyView, SlotView, Snapshot
from broker.policy.decide import PolicySettings, decide
from schemas.residency import Residency

NOW_S = 1000.0
A, B, C = ModelName("a"), ModelName("b"), ModelName("c")
GPU = SlotId("gpu0")


def model(name, *, waiting=0, since_s=NOW_S, arrival=50, priority=Priority.NORMAL, **fields):
    queue = ClassQueue(priority=priority, count=waiting, oldest_s=since_s, oldest_arrival=arrival)
    defaults = {"memory_mib": 10, "lease_limit": 4, "hold_s": 20.0, "hold_sd_s": 20.0, "hold_n": 9, "unload_s": 0.0}
    defaults |= {"load_s": 15.0, "unestimated": waiting}
    return ModelView(name=name, queues=(queue,) if waiting else (), **(defaults | fields))


def ready(name, *, loaded_s=900.0, leases=0, **fields):
    defaults = {
        "state": Residency.READY,
        "generation": 3,
        "memory_mib": 10,
        "waited": 10,
        "last_used_s": loaded_s + 0.01,
    }
    return ResidencyView(model=name, use=leases, loaded_s=loaded_s, **(defaults | fields))


def lease(name, number=0, *, granted_s=990.0, **fields):
    defaults = {"priority": Priority.NORMAL, "state": LeaseState.ACTIVE, "deadline_s": NOW_S + 60.0, "slot": GPU}
    return LeaseView(lease_id=LeaseId(f"{name}{number}"), model=name, granted_s=granted_s, **(defaults | fields))


def slot(*residencies, leases=(), **fields):
    defaults = {"slot": GPU, "state": SlotState.OPEN, "generation": 7, "budget_mib": 10, "serves": frozenset((A, B, C))}
    return SlotView(residencies=residencies, leases=tuple(leases), **(defaults | fields))


def picture(models, *slots):
    queued = sum(m.waiting for m in models)
    catalogue = {m.name: m for m in models}
    return Snapshot(now_s=NOW_S, sequence=1, next_arrival=100, models=catalogue, slots=slots, queued=queued)


def plan_of(models, *slots, **settings):
    return decide(picture(models, *slots), PolicySettings(**settings))
