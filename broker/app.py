"""Puts the broker together: store, loops, routes; and lets go of everything in order when it is asked to end."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import uvicorn
from fastapi import FastAPI

from broker import descriptors
from broker.api.auth import ApiKey, Authenticator
from broker.api.connections import guarded
from broker.api.guard import Guard
from broker.api.names import Names
from broker.api.origins import Origins
from broker.api.refusals import RefusalLog
from broker.api.routes import Application, describe, install
from broker.api.services import Services
from broker.api.whole_requests import Bounds
from broker.config import Config
from broker.core.activity import Activity
from broker.core.errors import NewerLibraryError
from broker.daybook import Daybook
from broker.forecasts import Forecasts
from broker.gateway.accounts import Accounts
from broker.gateway.clouds import Clouds
from broker.gateway.gateway import gateway_of
from broker.gateway.marks import Marks, marks_of
from broker.gateway.purse import Purse
from broker.gateway.routed_plan import Routing, routing_of
from broker.ingress import Ingress
from broker.key_config import KeyEntry
from broker.leasing import Leasing
from broker.life import Life
from broker.listening import DrainingServer
from broker.load_accounts import LoadAccounts
from broker.lookout import Lookout
from broker.loops import Loops
from broker.metrics import Metrics
from broker.principals import Principal, Scope
from broker.randomness import Randomness, new_generation_key
from broker.routing.budget import Ledger
from broker.scheduler import Round, Scheduler
from broker.secret_scanner import open_scanner
from broker.store.port import PoolSettings, Store
from broker.store_watch import StoreWatch
from broker.waiters import EventFeed, Waiters

log = logging.getLogger("hotseat.app")

ANONYMOUS = Principal(name="anonymous", scopes=frozenset({Scope.ADMIN}), has_key=False)
PAGE = Principal(name="anonymous-page", scopes=frozenset({Scope.LEASE, Scope.OBSERVE}), has_key=False)
"""A web page that may use the broker, without a key: no operator, and not the owner of anybody else's leases."""
LAST_ANSWERS_S = 0.2
"""What waiters get to take their last answer before connections are closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """One broker, without its HTTP server."""

    store: Store
    settings: PoolSettings
    services: Services
    loops: Loops
    feed: EventFeed
    scheduler: Scheduler
    ingress: Ingress
    book: Daybook
    life: Life
    watch: StoreWatch
    marks: Marks | None = None
    """Of private sessions, where something can leave."""

    async def run(self) -> None:
        """Make the pool, then work until cancelled."""
        await self.loops.until_done("init", self._init)
        async with asyncio.TaskGroup() as group:
            for name, step in (
                ("life", self.life.step),
                ("events", self.feed.step),
                ("scheduler", self.scheduler.step),
                ("bells", self.scheduler.bells_step),
                ("ingress", self.ingress.step),
                ("daybook", self.book.step),
                ("canaries", self.services.gateway.canaries.step),
                ("store", self.watch.step),
            ):
                group.create_task(self.loops.forever(name, step), name=name)
            if self.marks is not None:
                group.create_task(self.loops.forever("marks", self.marks.step), name="marks")

    async def _init(self) -> None:
        try:
            await self.store.init(self.settings)
        except NewerLibraryError as error:
            self.watch.note(error)
            raise

    async def drain(self) -> None:
        """Send waiters away (503, ask again) and let their answers out."""
        self.services.waiters.drain()
        await asyncio.sleep(LAST_ANSWERS_S if self.services.waiters.count else 0)


def build(config: Config, store: Store) -> Broker:
    """Wire one broker to a store.

    Longer than a function should be: it is one list of parts and of who is given which, with nothing to decide.
    """
    metrics = Metrics()
    randomness = Randomness()
    waiters = Waiters(limit=config.limits.max_waiters)
    feed = EventFeed(store, waiters)
    leasing = Leasing(store, waiters, config.lease_bounds(), new_id=randomness.lease_id, new_nonce=randomness.nonce)
    settings, desk = config.pool_settings(), config.gateway_settings()
    life = Life(store=store, name=desk.broker, new_boot=randomness.boot, silence_s=settings.broker_silence_s)
    policy = config.policy.settings()
    every_s, kept_s = config.gateway.report_times()
    book = Daybook(store.days, source=randomness.nonce(), every_s=every_s, kept_s=kept_s, unix_s=time.time)
    loads = LoadAccounts(book)
    scheduler = Scheduler(
        store,
        pool=settings,
        policy=policy,
        activity=Activity(horizon_s=policy.horizon_s),
        metrics=metrics,
        new_key=new_generation_key,
        clock=time.monotonic,
    )
    forecasts = Forecasts(last=lambda: scheduler.last, policy=policy, clock=time.monotonic)
    lookout = Lookout(scheduler, policy, forecasts)
    accounts = Accounts(metrics, book)
    routing = _routing(config, store, metrics, accounts, lambda: scheduler.last, randomness.process_name())
    gateway = gateway_of(
        desk,
        (leasing, life),
        waiters,
        accounts,
        lookout.prospect,
        config.gateway.timing(),
        routing,
    )
    feed.listeners += [
        lambda event: metrics.note(event.kind, event.at_s, event.fields),
        scheduler.note,
        forecasts.note,
        gateway.note,
    ]
    feed.listeners += [loads.note, life.note]
    scheduler.listeners.append(loads.committed)
    marks = routing.marks if routing else None
    if marks is not None:
        feed.listeners.append(marks.note)
    loops, watch = Loops(metrics), StoreWatch(store)
    started_s = time.monotonic()

    def troubles() -> list[str]:
        draining = ["shutting down"] if waiters.draining else []
        return draining + loops.troubles + ([] if scheduler.last else ["the pool has not been looked at yet"])

    services = Services(
        pool=config.store.pool,
        version=product_version(),
        store=store,
        leasing=leasing,
        waiters=waiters,
        feed=feed,
        authenticator=authenticator_of(config),
        gateway=gateway,
        metrics=metrics,
        table=config.routing_table(),
        outlook=lookout.outlook,
        explain=lookout.explain,
        picture=lookout.picture,
        book=book,
        troubles=troubles,
        warnings=lambda: watch.warnings,
        uptime_s=lambda: time.monotonic() - started_s,
        max_streams=config.limits.max_streams,
    )
    ingress = Ingress(store, leasing, metrics)
    return Broker(
        store=store,
        settings=settings,
        services=services,
        loops=loops,
        feed=feed,
        scheduler=scheduler,
        ingress=ingress,
        book=book,
        life=life,
        marks=marks,
        watch=watch,
    )


def _routing(
    config: Config, store: Store, metrics: Metrics, accounts: Accounts, last: Callable[[], Round | None], name: str
) -> Routing | None:
    if not config.has_routing:
        return None
    settings = config.routing_settings()
    ledger = Ledger(limits=config.budgets(), books=store.outside)
    return routing_of(
        settings,
        config.firewall(open_scanner() if settings.table.has_cloud else None),
        Purse(ledger, metrics, accounts.book),
        marks_of(store.outside, name, idle_s=settings.private_idle_s, limit=settings.private_sessions),
        Clouds(config.upstreams(), accounts.answers, head_s=config.gateway_settings().head_s),
        last,
    )


def build_app(config: Config, store: Store) -> FastAPI:
    """The ASGI application; its lifespan runs the loops and closes the store."""
    broker = build(config, store)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        work = asyncio.create_task(broker.run(), name="broker")
        log.info("broker_started", extra={"pool": config.store.pool, "models": len(config.models)})
        try:
            yield
        finally:
            await broker.drain()
            await broker.services.gateway.close()
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            await broker.life.close()
            await broker.book.close()
            await store.close()
            log.info("broker_stopped")

    app = _bare_app(lifespan)
    install(app, broker.services)
    app.state.broker = broker
    return app


def _bare_app(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None) -> Application:
    app = Application(
        title="Hotseat",
        version=product_version(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        # Prometheus metrics are ours; FastAPI's own telemetry costs a tenth of a lease call to find itself unused.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.doors = {}
    return app


def openapi_document() -> dict[str, Any]:
    """The API's description, the same whatever the configuration; no store is needed."""
    app = _bare_app()
    describe(app)
    return app.openapi()


def server_of(config: Config, app: FastAPI) -> DrainingServer:
    """The HTTP server around an application."""
    section = config.broker
    bounds = Bounds(
        max_connections=section.max_connections,
        request_timeout_s=section.request_timeout_s,
        reader_stall_s=config.gateway.reader_stall_s,
        descriptors=descriptors.ceiling,
    )
    names = Names(host=section.host, machine=socket.gethostname(), listed=section.hosts)
    refusals = RefusalLog(app.state.broker.services.metrics.answered)
    protocol = guarded(bounds, Guard(names, Origins(section.cors_origins)), refusals)
    return DrainingServer(
        uvicorn.Config(
            app,
            host=section.host,
            port=section.port,
            http=protocol,
            ws="none",
            interface="asgi3",
            loop="uvloop",
            lifespan="on",
            backlog=section.backlog,
            timeout_keep_alive=section.keep_alive_s,
            timeout_graceful_shutdown=max(1, round(section.drain_s)),
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
        ),
        app.state.broker.drain,
    )


def authenticator_of(config: Config) -> Authenticator:
    """The configured keys; anonymous callers only where the configuration lets them in."""
    anonymous = ANONYMOUS if config.broker.anonymous else None
    keys = [_key(entry) for entry in config.keys]
    return Authenticator(keys, anonymous=anonymous, page=PAGE, clock=time.monotonic)


def _key(entry: KeyEntry) -> ApiKey:
    principal = Principal(
        name=entry.name,
        scopes=frozenset(entry.scopes),
        models=entry.models,
        max_priority=entry.max_priority,
        max_ttl_s=entry.max_ttl_s,
        max_open=entry.max_open,
    )
    return ApiKey(principal=principal, sha256=entry.sha256, rate_per_s=entry.rate_per_s)


def product_version() -> str:
    """Of the installed distribution."""
    try:
        return version("hotseat")
    except PackageNotFoundError:
        return "0"
