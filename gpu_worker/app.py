"""Wires the worker together and runs it until a signal: the only place that makes clocks, ids and connections."""

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from gpu_worker.config import OnExit, SlotEntry, WorkerConfig, WorkerSection
from gpu_worker.drivers.dispatcher import Dispatcher
from gpu_worker.drivers.inspector import Inspector
from gpu_worker.drivers.port import DriverSettings, Recipe
from gpu_worker.drivers.registry import all_drivers
from gpu_worker.host.memory import MemorySettings, SlotMemory
from gpu_worker.host.nvml import Device
from gpu_worker.slot.high_water import HighWater
from gpu_worker.slot.home import home_of
from gpu_worker.slot.lock import SlotLock, SlotTakenError
from gpu_worker.slot.residency import Care
from gpu_worker.slot.settings import Ending, SlotSettings
from gpu_worker.slot.supervisor import Supervisor
from gpu_worker.store import StoreAddress, WorkerStore
from schemas import hangup
from schemas.config.file import ConfigError, ModelEntry, Section
from schemas.config.problems import ConfigProblem

EXIT_STOPPED = 0
EXIT_SUPERSEDED = 3
"""No slot is left to this worker, and at least one is served by a worker that was registered later."""

log = logging.getLogger(__name__)


async def run(config: WorkerConfig) -> int:
    """Serve all slots; answers the exit status.

    Raises:
        SlotTakenError: Another worker on this host serves one of the slots, or workers of other hosts all of them.
        ConfigError: The store's password cannot be read, ``state_dir`` not written, ``bind_host`` not resolved.
    """
    _check_bind_host(config.worker.bind_host)
    locks = _locks(config.worker)
    drivers = Dispatcher(all_drivers(_driver_settings(config.worker)))
    store = WorkerStore(_address(config))
    inspector = Inspector(drivers.inspect, _recipes(config))
    supervisors = _supervisors(config, drivers, store, inspector)
    inspector.is_loading = lambda: any(supervisor.is_loading for supervisor in supervisors)
    await inspector.look()
    inspecting = asyncio.create_task(inspector.run())
    try:
        return await _serve(config, supervisors)
    finally:
        inspecting.cancel()
        await drivers.close()
        await store.close()
        for lock in locks:
            lock.release()


async def _serve(config: WorkerConfig, supervisors: Sequence[Supervisor]) -> int:
    _on_signals(supervisors)
    for supervisor in supervisors:
        await supervisor.open()
    log.info("worker_started", extra={"worker": config.worker.name, "slots": len(supervisors)})
    try:
        endings = await asyncio.gather(*(_run_one(supervisor) for supervisor in supervisors))
    finally:
        await _leave(config.worker.on_exit, supervisors)
    if set(endings) == {Ending.TAKEN}:
        raise SlotTakenError(_whose(supervisors[0]))
    log.info("worker_stopped", extra={"worker": config.worker.name, "servers": config.worker.on_exit.value})
    return EXIT_STOPPED if Ending.STOPPED in endings else EXIT_SUPERSEDED


def _whose(supervisor: Supervisor) -> str:
    return (
        f"slot {supervisor.slot!r} is served by worker {supervisor.holder!r} of another host, which lives; "
        "stop that one, or give this one another slot"
    )


async def _run_one(supervisor: Supervisor) -> Ending:
    """The servers of a slot that is another worker's are stale: nobody may reach them, so they end at once."""
    ending = await supervisor.run()
    if ending is not Ending.STOPPED:
        await supervisor.stop_servers()
    return ending


async def _leave(on_exit: OnExit, supervisors: Sequence[Supervisor]) -> None:
    if on_exit is OnExit.STOP:
        await asyncio.gather(*(supervisor.stop_servers() for supervisor in supervisors))
    for supervisor in supervisors:
        supervisor.let_go()


def _on_signals(supervisors: Sequence[Supervisor]) -> None:
    def stop() -> None:
        for supervisor in supervisors:
            supervisor.stop()

    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop)
    loop.add_signal_handler(signal.SIGHUP, hangup.say_ignored, log)


# ---------------------------------------------------------------------------------------------------- from config


def _check_bind_host(host: str) -> None:
    """Every load would fail for want of a free port."""
    try:
        socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not a host name"
        what = f"{host!r} cannot be resolved: {reason}"
        raise ConfigError(ConfigProblem(table="[worker]", key="bind_host", what=what)) from None


def _locks(worker: WorkerSection) -> list[SlotLock]:
    try:
        return [SlotLock(_folder(worker, slot.id), slot.id) for slot in worker.slot]
    except OSError as error:
        what = f"{worker.state_dir.absolute()} cannot be written: {error.strerror}"
        raise ConfigError(ConfigProblem(table="[worker]", key="state_dir", what=what)) from None


def _folder(worker: WorkerSection, slot: str) -> Path:
    return worker.state_dir.absolute() / quote(slot, safe="")


def _address(config: WorkerConfig) -> StoreAddress:
    section = config.store
    return StoreAddress(url=section.url, pool=section.pool, username=section.username, password=section.read_password())


def _where(config: WorkerConfig) -> str:
    """Its address has no credentials: those have fields of their own."""
    return f"{config.store.url}, pool {config.store.pool!r}"


def _driver_settings(worker: WorkerSection) -> DriverSettings:
    return DriverSettings(
        state_dir=worker.state_dir,
        adopt_grace_s=worker.adopt_grace_s,
        bind_host=worker.bind_host,
        advertise_host=worker.advertise_host,
        ports=worker.ports,
        log_limit_bytes=worker.log_limit_kib * 1024,
        environ=dict(os.environ),
        devices={slot.id: slot.device_uuid for slot in worker.slot if slot.device_uuid},
    )


def _recipes(config: WorkerConfig) -> list[Recipe]:
    """List what this host can start."""
    return [_recipe(entry, config.own[entry.name]) for entry in config.startable]


def _recipes_of(config: WorkerConfig, slot: str) -> list[Recipe]:
    """List what a slot can load."""
    bound = {entry.name: entry.slots for entry in config.models}
    return [one for one in _recipes(config) if not bound[one.model] or slot in bound[one.model]]


def _recipe(entry: ModelEntry, own: Section) -> Recipe:
    return Recipe(
        model=entry.name,
        driver=entry.driver,
        own=own,
        command=entry.command,
        served_name=entry.expected_name,
        kind=entry.kind,
        memory_mib=entry.memory_mib,
        model_path=entry.model_path,
        env=tuple(sorted(entry.env.items())),
        key=entry.key_way,
        health_path=entry.health_path,
        load_timeout_s=entry.load_timeout_s,
        stop_timeout_s=entry.stop_timeout_s,
    )


def _supervisors(
    config: WorkerConfig, drivers: Dispatcher, store: WorkerStore, inspector: Inspector
) -> list[Supervisor]:
    boot = secrets.token_hex(8)
    supervisors: list[Supervisor] = []
    of_device: dict[str, list[Supervisor]] = {}

    def own_pids() -> set[int]:
        """Of all slots: what another slot of this worker uses is not foreign."""
        return set().union(*(supervisor.own_pids() for supervisor in supervisors))

    def supervisor_of(slot: SlotEntry) -> Supervisor:
        limits = MemorySettings(
            budget_mib=slot.budget_mib, reserve_mib=slot.reserve_mib, tolerance_mib=slot.tolerance_mib
        )
        device = Device(slot.device_uuid) if slot.device_uuid else None
        settings = replace(_slot_settings(config.worker, slot, boot), store=_where(config))
        high_water = HighWater(_folder(config.worker, slot.id))
        memory = SlotMemory(limits, device, own_pids)
        recipes = _recipes_of(config, slot.id)
        supervisor = Supervisor(settings, recipes, drivers, store, high_water, memory, inspector)
        if slot.device_uuid:
            sharing = of_device.setdefault(slot.device_uuid, [])
            sharing.append(supervisor)
            supervisor.neighbours = lambda: frozenset().union(*(one.ready_models() for one in sharing))
        return supervisor

    supervisors += [supervisor_of(slot) for slot in config.worker.slot]
    return supervisors


def _slot_settings(worker: WorkerSection, slot: SlotEntry, boot: str) -> SlotSettings:
    care = Care(
        probe_interval_s=worker.probe_interval_s,
        probe_timeout_s=worker.probe_timeout_s,
        probe_failures=worker.probe_failures,
        prove_timeout_s=worker.prove_timeout_s,
        adopt_timeout_s=worker.adopt_timeout_s,
        memory_timeout_s=worker.memory_timeout_s,
    )
    return SlotSettings(
        slot=slot.id,
        worker=worker.name,
        boot=boot,
        care=care,
        beat_s=worker.beat_s,
        orders_interval_s=worker.orders_interval_s,
        home=home_of(_folder(worker, slot.id)),
        claim_wait_s=worker.claim_wait_s,
    )
