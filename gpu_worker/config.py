"""The worker's part of ``hotseat.toml``: ``[worker]`` and its slots, beside the shared sections."""

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from gpu_worker.drivers.port import LAUNCH_KEYS
from gpu_worker.drivers.registry import driver_entry_of
from schemas.config import drivers
from schemas.config.file import ConfigSource, ModelEntry, Name, Section, StoreSection, models_of, note_room
from schemas.config.problems import near

DEVICES = "CUDA_VISIBLE_DEVICES"


class OnExit(StrEnum):
    """What becomes of running model servers when the worker is asked to end."""

    LEAVE = "leave"
    STOP = "stop"


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-._") or "worker"


def _state_dir() -> Path:
    """Where a service may write, else where the user may."""
    if directory := os.environ.get("STATE_DIRECTORY"):
        return Path(directory.split(":")[0])
    return Path.home() / ".local" / "state" / "hotseat" / "worker"


class SlotEntry(Section):
    """``[[worker.slot]]``: a place with a memory budget."""

    id: Name
    """Name of the slot in the store; unique in the pool, also across hosts."""
    budget_mib: int | None = Field(default=None, gt=0, le=16 * 1024 * 1024)
    """Memory the slot may use, MiB. None: all of the device but ``reserve_mib``; then ``device_uuid`` is needed."""
    device_uuid: str | None = Field(default=None, pattern=r"^(GPU|MIG)-[A-Za-z0-9-]{1,80}$")
    """GPU by UUID (``nvidia-smi -L``): indexes change between boots. None: memory is declared, not measured."""
    reserve_mib: int = Field(default=0, ge=0, le=1024 * 1024)
    """Of the device, never used, MiB: room for a desktop or for fragmentation."""
    tolerance_mib: int = Field(default=64, ge=0, le=16 * 1024)
    """Memory that need not come back after an unload, MiB: driver and allocator keep a little."""

    @model_validator(mode="after")
    def _has_a_size(self) -> Self:
        if self.budget_mib is None and self.device_uuid is None:
            raise ValueError("set budget_mib, or device_uuid to measure it")
        return self


class WorkerSection(Section):
    """``[worker]``: one daemon on one GPU host."""

    name: Name = Field(default_factory=_host_name)
    """Who reports; the host's name unless given."""
    state_dir: Path = Field(default_factory=_state_dir)
    """High-water marks, locks, generation keys and logs; must survive restarts, and be this user's alone."""
    slot: tuple[SlotEntry, ...] = ()
    """At least one, for a worker."""
    adopt_grace_s: float = Field(default=60.0, ge=0, le=3600)
    """A model server outlives its worker by this, seconds: long enough for a restart or an upgrade, and the longest
    time in which memory is used that nobody supervises."""
    on_exit: OnExit = OnExit.LEAVE
    """What SIGTERM does to model servers. ``leave``: they run on for ``adopt_grace_s``, so a restart interrupts nobody;
    ``stop``: they end with the worker."""
    beat_s: float = Field(default=1.0, ge=0.1, le=30)
    """A report is written at least this often, seconds; brokers take a slot offline after several missed ones."""
    orders_interval_s: float = Field(default=2.0, ge=0.1, le=60)
    """Orders are read at least this often, seconds: heals a missed ring."""
    claim_wait_s: float = Field(default=30.0, ge=0, le=3600)
    """A slot that another host's worker has is asked for this long, seconds, then left to it. Longer than brokers need
    to find out that that one has died (``limits.silence_s``)."""
    bind_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """Address model servers listen on. Anything but loopback needs a private network: the key travels in the clear."""
    advertise_host: str = Field(default="127.0.0.1", min_length=1, max_length=255)
    """Host name or address under which brokers and clients reach the model servers."""
    port_min: int = Field(default=0, ge=0, le=65535)
    """First port for model servers; 0: any free one."""
    port_max: int = Field(default=0, ge=0, le=65535)
    """Last port for model servers, inclusive."""
    probe_interval_s: float = Field(default=5.0, ge=0.1, le=300)
    """Between two health probes of a ready server, seconds; its death is noticed at once without them."""
    probe_timeout_s: float = Field(default=10.0, ge=0.1, le=300)
    """A probe without an answer has failed, seconds; a busy server may be slow."""
    probe_failures: int = Field(default=3, ge=1, le=100)
    """Probes that must fail in a row before the server counts as hung and is killed."""
    prove_timeout_s: float = Field(default=15.0, ge=0.1, le=600)
    """A ready server that a broker doubts owes one token within this, seconds; one that gives none while its processes
    do nothing is killed. One that works on somebody's long request meanwhile is left alone."""
    adopt_timeout_s: float = Field(default=5.0, ge=0.1, le=300)
    """An adopted server must prove itself within this, seconds; the first report waits for it."""
    memory_timeout_s: float = Field(default=10.0, ge=0.1, le=600)
    """After an unload memory must be back within this, seconds; else the slot has a fault until it is."""
    log_limit_kib: int = Field(default=1024, ge=16, le=1024 * 1024)
    """Output kept of each model server, KiB."""
    log_format: Literal["text", "json"] = "text"
    """``json``: one object per line."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is logged."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        names = [slot.id for slot in self.slot]
        if len(set(names)) != len(names):
            raise ValueError("two slots have the same id")
        if bool(self.port_min) != bool(self.port_max) or self.port_min > self.port_max:
            raise ValueError("port_min and port_max: set both, the lower first, or neither")
        return self

    @property
    def ports(self) -> range:
        """Ports for model servers; empty: any."""
        return range(self.port_min, self.port_max + 1) if self.port_min else range(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """All the worker reads."""

    store: StoreSection
    worker: WorkerSection
    models: tuple[ModelEntry, ...]
    own: Mapping[str, Section] = field(default_factory=dict)
    """Holds what its driver is told of each model that this host can start, by the model's name."""

    @property
    def startable(self) -> tuple[ModelEntry, ...]:
        """Return the models that this host can start."""
        return tuple(entry for entry in self.models if entry.name in self.own)

    def warnings(self) -> tuple[str, ...]:
        """What an operator should know though it works."""
        told = ((entry, self._doubts(entry, self.worker.slot)) for entry in self.models)
        return tuple(f'[[model]] "{entry.name}": {doubt}' for entry, doubt in told if doubt)

    def _doubts(self, entry: ModelEntry, slots: Sequence[SlotEntry]) -> str:
        """Say why a model is not loaded here, or not as its owner thinks."""
        homes = [slot for slot in slots if not entry.slots or slot.id in entry.slots]
        if entry.name not in self.own:
            lack = "command" if "command" in driver_entry_of(entry.driver).reads else f"[model.{entry.driver}]"
            return f"has no {lack}, so this worker does not serve it" if homes else ""
        return _doubts_at(entry, slots, homes)


def _doubts_at(entry: ModelEntry, slots: Sequence[SlotEntry], homes: Sequence[SlotEntry]) -> str:
    if not homes:
        return f"slots: this worker has none of them; {near(entry.slots[0], [slot.id for slot in slots])}"
    sizes = [slot.budget_mib for slot in homes if slot.budget_mib is not None]
    if len(sizes) == len(homes) and entry.memory_mib > max(sizes):
        room = f"any slot here that may load it has ({max(sizes)} MiB)"
        return f"memory_mib = {entry.memory_mib} is more than {room}, so it never is"
    if DEVICES in entry.env and any(slot.device_uuid for slot in homes):
        return f"env.{DEVICES}: the worker sets it to the device_uuid of the slot"
    return ""


def load_config(path: Path | None, environ: Mapping[str, str]) -> WorkerConfig:
    """Read and check everything.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names all of it.
    """
    source = ConfigSource.read(path, environ)
    config = WorkerConfig(
        store=source.section(StoreSection, "store"),
        worker=source.section(WorkerSection, "worker"),
        models=models_of(source),
    )
    if not config.worker.slot and source.is_sound("worker"):
        source.blame("needs at least one [[worker.slot]]", "worker")
    config = replace(config, own=_own_tables(source))
    budgets = {slot.id: slot.budget_mib for slot in config.worker.slot if slot.budget_mib is not None}
    if len(budgets) == len(config.worker.slot):
        note_room(source, config.startable, budgets)
    source.done()
    return config


def _own_tables(source: ConfigSource) -> dict[str, Section]:
    """Read what drivers are told of the models that they can start; note what they cannot make sense of."""
    tables = source.raw.get("model", [])
    found = {}
    for index, table in enumerate(tables if isinstance(tables, list) else []):
        driver = table.get("driver", drivers.DEFAULT_DRIVER) if isinstance(table, dict) else None
        if not isinstance(driver, str) or driver not in drivers.DRIVERS:
            continue
        section, reads = driver_entry_of(driver).section, driver_entry_of(driver).reads
        for key in sorted((LAUNCH_KEYS - reads) & table.keys()):
            source.blame(f"the {driver} driver reads none", "model", index, key)
        own = source.table_in(section, "model", index, driver) if isinstance(table.get(driver, {}), dict) else None
        if own is not None and ("command" not in reads or table.get("command")):
            found[str(table.get("name"))] = own
    return found
