"""What travels through Redis between broker and worker, and the keys it travels under.

Orders are the desired state of one slot, written by the broker's functions; a report is its observed state, written by
the worker. Both are flat hashes of short words so that ``redis-cli HGETALL`` reads well; this module turns them into
values and back. Readers ignore fields they do not know: an older peer must not stumble over a newer one.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from schemas.residency import Residency

TEXT_BYTES = 16_384
"""Longest text of a report. A store that finds a longer one, or a number beyond its bounds, takes the slot offline."""
LONGEST_PRIOR_MS = 21_600_000
DAY_MS = 86_400_000


class FailureKind(StrEnum):
    """What a failure of a model tells about its next load."""

    PERMANENT = "permanent"
    """It cannot load until its catalogue entry, its program or one of its files changes."""
    PASSING = "passing"
    """It may well load the next time."""
    ROOM = "room"
    """It ran out of memory, or died while it loaded, beside other models: with more room it may load."""
    HOST = "host"
    """The host's doing and not the model's: no port, no memory for a moment, somebody else on the port."""
    USELESS = "useless"
    """It was ready and answered its health probe, and its worker has proved that it does nothing for anybody."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """One model the broker wants resident."""

    model: str
    generation: int
    """Of the order that asked for this load; grows per slot, never reused."""
    key: str
    """API key the model server must be started with: the generation key."""
    depth: str = Residency.READY
    """How deep it is wanted, a word of ``Residency``; any other is of a newer broker, and the worker says so."""
    prove: int = 0
    """Grows when a broker doubts that the server does anything; the worker then asks it for a token and looks."""


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
    state: Residency
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
    """What went wrong, and the server's own last words: printable, bounded, without secrets."""
    failure: FailureKind | None = None
    """Set when failed."""


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker sees of a model without starting it: its catalogue entry, its program, its files."""

    model: str
    stamp: str = ""
    """Changes when any of them changes; told of models whose last load failed."""
    trouble: str = ""
    """Why it cannot be started as things are (no such program or file); empty when nothing is seen to be wrong."""
    prior_ms: int = 0
    """How long a load should take, milliseconds, from the size of its files and the speed of their disk; 0: unknown."""


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
    used_percent: int = 0
    """Of the time that anybody's work ran on the device, over some seconds; 0 where nobody tells."""
    foreign_percent: int = -1
    """The same of others than our model servers; -1 where nobody tells."""
    serves: tuple[str, ...] = ()
    """Models this host's catalogue can start."""
    fault: str = ""
    """Why the slot must not be used (device lost, memory did not come back); empty when sound."""
    residencies: tuple[ResidencyReport, ...] = ()
    inspections: tuple[Inspection, ...] = ()
    """Of models whose files are found, that cannot be started, or whose last load failed."""


def base_key(pool: str) -> str:
    """The prefix of all keys of a pool; one hash tag, so a pool lives in one cluster slot."""
    return f"hotseat:{{{pool}}}"


def orders_from_hash(fields: Mapping[str, str]) -> Orders:
    """Read ``P:orders:<slot>``. An empty hash is an order for nothing of generation 0."""
    wants = tuple(
        Want(
            model=name[5:],
            generation=int(value),
            key=fields.get(f"key:{name[5:]}", ""),
            depth=fields.get(f"depth:{name[5:]}", Residency.READY),
            prove=int(fields.get(f"prove:{name[5:]}", "0")),
        )
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
        "used_percent": str(report.used_percent),
        "foreign_percent": str(report.foreign_percent),
        "serves": " ".join(report.serves),
        "fault": _bounded(report.fault),
    }
    for residency in report.residencies:
        fields |= _residency_fields(residency)
    for inspection in report.inspections:
        fields |= _inspection_fields(inspection)
    return fields


def _inspection_fields(inspection: Inspection) -> dict[str, str]:
    told = {
        f"stamp:{inspection.model}": inspection.stamp,
        f"unsound:{inspection.model}": _bounded(inspection.trouble),
        f"prior_ms:{inspection.model}": str(min(inspection.prior_ms, LONGEST_PRIOR_MS) or ""),
    }
    return {name: value for name, value in told.items() if value}


def _bounded(text: str) -> str:
    return text.encode("utf-8", "replace")[:TEXT_BYTES].decode("utf-8", "ignore")


def _residency_fields(residency: ResidencyReport) -> dict[str, str]:
    name = residency.model
    return {
        f"state:{name}": residency.state.value,
        f"gen:{name}": str(residency.generation),
        f"url:{name}": residency.url,
        f"progress:{name}": str(residency.progress),
        f"mib:{name}": str(residency.memory_mib),
        f"took_ms:{name}": str(min(residency.took_ms, DAY_MS)),
        f"error:{name}": _bounded(residency.error),
        f"failure:{name}": residency.failure.value if residency.failure is not None else "",
    }
