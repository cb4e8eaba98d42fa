"""The worker's part of ``hotseat.toml``: ``[worker]`` and its slots, beside the shared sections."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.config_file import ConfigError, ModelEntry, Name, Section, StoreSection, load_toml, models_of, section_of

DRIVERS = frozenset({"process"})
"""Drivers this worker has."""


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
class Config:
    """All the worker reads."""

    store: StoreSection
    worker: WorkerSection
    models: tuple[ModelEntry, ...]


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read and check everything.

    Raises:
        ConfigError: Something is missing, unknown or out of bounds; the message names it.
    """
    raw = load_toml(path, environ)
    config = Config(
        store=section_of(StoreSection, raw, "store"),
        worker=section_of(WorkerSection, raw, "worker"),
        models=models_of(raw),
    )
    if not config.worker.slot:
        raise ConfigError("worker: needs at least one [[worker.slot]]")
    for entry in config.models:
        if entry.command and entry.driver not in DRIVERS:
            raise ConfigError(
                f"model {entry.name!r}: no driver {entry.driver!r}; there is {', '.join(sorted(DRIVERS))}"
            )
    return config
