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

from broker.access.guard import Guard
from broker.access.host_names import Names
from broker.access.keys import ApiKey, Authenticator
from broker.access.origins import Origins
from broker.access.principals import ANONYMOUS, Principal, Scope
from broker.accounting.daily_counts import DailyCounts
from broker.accounting.metrics import Metrics
from broker.accounting.requests import Accounts
from broker.api.pool.nobody_works import watch_for_workers
from broker.api.pool.picture import SchedulerPicture
from broker.api.routes import Application, describe, install
from broker.api.services import Services
from broker.config.broker_config import BrokerConfig
from broker.config.key_config import KeyEntry
from broker.core.errors import NewerLibraryError
from broker.gateway.cloud.spending import Spending
from broker.gateway.cloud.upstreams import Clouds
from broker.gateway.plans.preview import Preview
from broker.gateway.plans.questions import PoolNow
from broker.gateway.plans.routed_plan import RoutedPlans, routing_of
from broker.gateway.requests.marks import PrivacyMarks, marks_of
from broker.gateway.service import gateway_of
from broker.http_server import descriptors
from broker.http_server.connections import guarded
from broker.http_server.listening import DrainingServer
from broker.http_server.whole_requests import Bounds
from broker.leasing.event_feed import EventFeed
from broker.leasing.ingress import Ingress
from broker.leasing.life import BrokerLife
from broker.leasing.service import Leasing
from broker.leasing.waiters import Waiters
from broker.policy.activity import Activity
from broker.process.loops import Loops
from broker.process.randomness import Randomness, new_generation_key
from broker.process.secret_scanner import open_scanner
from broker.process.store_watch import StoreWatch
from broker.protocol.refusals import RefusalLog
from broker.routing.budget import Ledger
from broker.scheduling.forecasts import Forecasts
from broker.scheduling.load_counts import LoadAccounts
from broker.scheduling.operating import Operating
from broker.scheduling.scheduler import Round, Scheduler
from broker.store.port import PoolSettings, Store

log = logging.getLogger("hotseat.app")

ANYBODY = Principal(name=ANONYMOUS, scopes=frozenset({Scope.ADMIN}), has_key=False)
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
    book: DailyCounts
    life: BrokerLife
    watch: StoreWatch
    marks: PrivacyMarks | None = None
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


def build(config: BrokerConfig, store: Store) -> Broker:
    """Wire one broker to a store.

    Longer than a function should be: it is one list of parts and of who is given which, with nothing to decide.
    """
    metrics = Metrics()
    randomness = Randomness()
    waiters = Waiters(limit=config.limits.max_waiters)
    feed = EventFeed(store, waiters)
    leasing = Leasing(store, waiters, config.lease_bounds(), new_id=randomness.lease_id, new_nonce=randomness.nonce)
    settings, context = config.pool_settings(), config.gateway_settings()
    life = BrokerLife(store=store, name=context.broker, new_boot=randomness.boot, silence_s=settings.broker_silence_s)
    policy = config.policy.settings()
    every_s, kept_s = config.gateway.report_times()
    book = DailyCounts(store.days, source=randomness.nonce(), every_s=every_s, kept_s=kept_s, unix_s=time.time)
    loads = LoadAccounts(book)
    scheduler = Scheduler(
        store,
        pool=settings,
        policy=policy,
        activity=Activity(horizon_s=policy.horizon_s, away_s=policy.away_s),
        metrics=metrics,
        new_key=new_generation_key,
        clock=time.monotonic,
    )
    forecasts = Forecasts(last=lambda: scheduler.last, policy=policy, clock=time.monotonic)
    picture = SchedulerPicture(scheduler, policy, forecasts)
    accounts = Accounts(metrics, book)
    routing = _routing(config, store, metrics, accounts, lambda: scheduler.last, randomness.process_name())
    gateway = gateway_of(
        context,
        (leasing, life),
        waiters,
        accounts,
        picture.prospect,
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
    where = f"{config.store.url}, pool {config.store.pool!r}"
    loops, watch = Loops(metrics), StoreWatch(store, also=watch_for_workers(where, picture.picture))
    started_s = time.monotonic()

    def faults() -> list[str]:
        draining = ["shutting down"] if waiters.draining else []
        return draining + loops.faults + ([] if scheduler.last else ["the pool has not been looked at yet"])

    services = Services(
        pool=config.store.pool,
        version=product_version(),
        store=store,
        leasing=leasing,
        waiters=waiters,
        feed=feed,
        authenticator=authenticator_of(config),
        gateway=gateway,
        preview=Preview(
            context=gateway.context,
            routing=routing,
            pool=PoolNow(lambda: scheduler.last, policy, config.routing.busy_percent),
        ),
        metrics=metrics,
        table=config.routing_table(),
        outlook=picture.outlook,
        explain=picture.explain,
        picture=picture.picture,
        operating=Operating(store, policy),
        book=book,
        faults=faults,
        warnings=lambda: watch.warnings,
        uptime_s=lambda: time.monotonic() - started_s,
        max_streams=config.limits.max_streams,
    )
    ingress = Ingress(store, leasing, metrics, keys=[key.name for key in config.keys])
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
    config: BrokerConfig,
    store: Store,
    metrics: Metrics,
    accounts: Accounts,
    last: Callable[[], Round | None],
    name: str,
) -> RoutedPlans | None:
    if not config.has_routing:
        return None
    settings = config.routing_settings()
    ledger = Ledger(limits=config.budgets(), books=store.spending)
    return routing_of(
        settings,
        config.firewall(open_scanner() if settings.table.has_cloud else None),
        Spending(ledger, metrics, accounts.book),
        marks_of(store.privacy_marks, name, idle_s=settings.private_idle_s, limit=settings.private_sessions),
        Clouds(config.upstreams(), accounts.answers, head_s=config.gateway_settings().head_s),
        accounts.speeds,
        last,
    )


def build_app(config: BrokerConfig, store: Store) -> FastAPI:
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


def server_of(config: BrokerConfig, app: FastAPI) -> DrainingServer:
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


def authenticator_of(config: BrokerConfig) -> Authenticator:
    """The configured keys; anonymous callers only where the configuration lets them in."""
    anonymous = ANYBODY if config.broker.anonymous else None
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
