"""What travels through Redis between broker and worker, and the keys it travels under.

Orders are the desired state of one slot, written by the broker's functions; a report is its observed state, written by
the worker. Both are flat hashes of short words so that ``redis-cli HGETALL`` reads well; this module turns them into
values and back. Readers ignore fields they do not know: an older peer must not stumble over a newer one.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec


class ResidencyState(StrEnum):
    """How deep a model is on a slot."""

    ABSENT = "absent"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    FAILED = "failed"


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One model the broker wants resident."""

    model: str
    generation: int
    """Of the order that asked for this load; grows per slot, never reused."""
    key: str
    """API key the model server must be started with: the generation key."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Desired state of one slot."""

    incarnation: str = ""
    epoch: int = 0
    boot: str = ""
    generation: int = 0
    refused: str = ""
    """Boot of a worker of another host that claimed the slot while its own worker lives."""
    holder: str = ""
    """Name of the worker that has the slot; set beside ``refused``."""
    wants: tuple[Want, ...] = ()


class ResidencyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker observes of one model."""

    model: str
    state: ResidencyState
    generation: int
    url: str = ""
    """Base URL of the model server's own API, ending in ``/v1``; set when ready."""
    progress: int = 0
    """Percent of the load, 0 to 100; 0 where the server does not tell."""
    memory_mib: int = 0
    """Measured footprint; 0 where it cannot be measured."""
    took_ms: int = 0
    """Order to ready, milliseconds; set when ready."""
    error: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Observed state of one slot."""

    worker: str
    boot: str
    """Random per worker process."""
    home: str = ""
    """Where that process keeps its state: the same after a restart, another one on another host."""
    incarnation: str = ""
    epoch: int = 0
    high_water: int = 0
    """Highest order generation ever acted upon, durable on the GPU host."""
    beat: int = 0
    """Grows with every report; a store that sees it stand still knows the worker is silent."""
    budget_mib: int = 0
    """Memory the slot may use now: configured or measured total, less foreign use and the reserve."""
    total_mib: int = 0
    free_mib: int = 0
    foreign_mib: int = 0
    foreign: str = ""
    """Foreign processes on the device, ``name/pid:mib`` separated by spaces."""
    serves: tuple[str, ...] = ()
    """Models this host's catalogue can start."""
    fault: str = ""
    """Why the slot must not be used (device lost, memory did not come back); empty when sound."""
    residencies: tuple[ResidencyReport, ...] = ()


def base_key(pool: str) -> str:
    """The prefix of all keys of a pool; one hash tag, so a pool lives in one cluster slot."""
    return f"hotseat:{{{pool}}}"


def orders_from_hash(fields: Mapping[str, str]) -> Orders:
    """Read ``P:orders:<slot>``. An empty hash is an order for nothing of generation 0."""
    wants = tuple(
        Want(model=name[5:], generation=int(value), key=fields.get(f"key:{name[5:]}", ""))
        for name, value in sorted(fields.items())
        if name.startswith("want:")
    )
    return Orders(
        incarnation=fields.get("inc", ""),
        epoch=int(fields.get("epoch", "0")),
        boot=fields.get("boot", ""),
        generation=int(fields.get("gen", "0")),
        refused=fields.get("refused", ""),
        holder=fields.get("holder", ""),
        wants=wants,
    )


def report_to_hash(report: Report) -> dict[str, str]:
    """The fields of ``P:report:<slot>``, complete: the writer replaces the whole hash."""
    fields = {
        "worker": report.worker,
        "boot": report.boot,
        "home": report.home,
        "inc": report.incarnation,
        "epoch": str(report.epoch),
        "hw": str(report.high_water),
        "beat": str(report.beat),
        "budget_mib": str(report.budget_mib),
        "total_mib": str(report.total_mib),
        "free_mib": str(report.free_mib),
        "foreign_mib": str(report.foreign_mib),
        "foreign": report.foreign,
        "serves": " ".join(report.serves),
        "fault": report.fault,
    }
    for residency in report.residencies:
        fields |= _residency_fields(residency)
    return fields


def _residency_fields(residency: ResidencyReport) -> dict[str, str]:
    name = residency.model
    return {
        f"state:{name}": residency.state.value,
        f"gen:{name}": str(residency.generation),
        f"url:{name}": residency.url,
        f"progress:{name}": str(residency.progress),
        f"mib:{name}": str(residency.memory_mib),
        f"took_ms:{name}": str(residency.took_ms),
        f"error:{name}": residency.error,
    }
