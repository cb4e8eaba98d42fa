"""Wires the worker together and runs it until a signal: the only place that makes clocks, ids and connections."""

import asyncio
import logging
import os
import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from gpu_worker.config import Config, OnExit, SlotEntry, WorkerSection
from gpu_worker.drivers.port import Driver, Recipe
from gpu_worker.drivers.process import ProcessDriver
from gpu_worker.drivers.process_server import ProcessSettings
from gpu_worker.high_water import HighWater
from gpu_worker.home import home_of
from gpu_worker.memory import MemorySettings, SlotMemory
from gpu_worker.nvml import Device
from gpu_worker.residency import Care
from gpu_worker.slot import Ending, SlotSettings
from gpu_worker.slot_lock import SlotLock, SlotTakenError
from gpu_worker.store import Store, StoreAddress
from gpu_worker.supervisor import Supervisor
from schemas import hangup
from schemas.config_file import ModelEntry

EXIT_STOPPED = 0
EXIT_SUPERSEDED = 3
"""No slot is left to this worker, and at least one is served by a worker that was registered later."""

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}

log = logging.getLogger(__name__)


async def run(config: Config) -> int:
    """Serve all slots; answers the exit status.

    Raises:
        SlotTakenError: Another worker on this host serves one of the slots, or workers of other hosts all of them.
        ConfigError: The store's password cannot be read.
    """
    folders = {slot.id: _folder(config.worker, slot.id) for slot in config.worker.slot}
    locks = [SlotLock(folder, slot) for slot, folder in folders.items()]
    driver = _driver(config.worker)
    store = Store(_address(config))
    supervisors = _supervisors(config, driver, store)
    try:
        return await _serve(config, supervisors)
    finally:
        await driver.close()
        await store.close()
        for lock in locks:
            lock.release()


async def _serve(config: Config, supervisors: Sequence[Supervisor]) -> int:
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


def _folder(worker: WorkerSection, slot: str) -> Path:
    return worker.state_dir.absolute() / quote(slot, safe="")


def _address(config: Config) -> StoreAddress:
    section = config.store
    return StoreAddress(url=section.url, pool=section.pool, username=section.username, password=section.read_password())


def _driver(worker: WorkerSection) -> ProcessDriver:
    return ProcessDriver(
        ProcessSettings(
            state_dir=worker.state_dir,
            adopt_grace_s=worker.adopt_grace_s,
            bind_host=worker.bind_host,
            ports=worker.ports,
            log_limit_bytes=worker.log_limit_kib * 1024,
            environ=dict(os.environ),
            devices={slot.id: slot.device_uuid for slot in worker.slot if slot.device_uuid},
        )
    )


def _recipes(models: Sequence[ModelEntry]) -> list[Recipe]:
    return [
        Recipe(
            model=entry.name,
            command=entry.command,
            served_name=entry.expected_name,
            kind=entry.kind,
            memory_mib=entry.memory_mib,
            model_path=entry.model_path,
            env=tuple(sorted(entry.env.items())),
            health_path=entry.health_path,
            load_timeout_s=entry.load_timeout_s,
            stop_timeout_s=entry.stop_timeout_s,
        )
        for entry in models
        if entry.command
    ]


def _supervisors(config: Config, driver: Driver, store: Store) -> list[Supervisor]:
    boot, recipes = secrets.token_hex(8), _recipes(config.models)
    supervisors: list[Supervisor] = []

    def own_pids() -> set[int]:
        """Of all slots: what another slot of this worker uses is not foreign."""
        return set().union(*(supervisor.own_pids() for supervisor in supervisors))

    def supervisor_of(slot: SlotEntry) -> Supervisor:
        limits = MemorySettings(
            budget_mib=slot.budget_mib, reserve_mib=slot.reserve_mib, tolerance_mib=slot.tolerance_mib
        )
        device = Device(slot.device_uuid) if slot.device_uuid else None
        settings = _slot_settings(config.worker, slot, boot)
        high_water = HighWater(_folder(config.worker, slot.id))
        return Supervisor(settings, recipes, driver, store, high_water, SlotMemory(limits, device, own_pids))

    supervisors += [supervisor_of(slot) for slot in config.worker.slot]
    return supervisors


def _slot_settings(worker: WorkerSection, slot: SlotEntry, boot: str) -> SlotSettings:
    care = Care(
        probe_host=_LOOPBACK.get(worker.bind_host, worker.bind_host),
        advertise_host=worker.advertise_host,
        probe_interval_s=worker.probe_interval_s,
        probe_timeout_s=worker.probe_timeout_s,
        probe_failures=worker.probe_failures,
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
