"""Which conversations are in progress, and so which warm leases to renew, give back or let lapse: no clock, no I/O.

A session keeps its model warm by rule:

1. Cron jobs and other automatic sessions never do: they ride what is warm.
2. A stopped session (``/stop``) gives its model back.
3. A session with a run in progress does, when the run began with an interaction (a heartbeat's does not) and shows a
   sign of life now and then (the rows of a gateway that was killed say ``running`` for ever).
4. A sub-agent whose run is over, and a session that was reset (``/new``) and has not run since, give it back.
5. A session somebody talked to in the last ``active_s`` does; the others are let lapse.

Time: a source's stamps are compared with its own clock, once, when a value is first seen. From then on only the
reader's steady clock counts, so a clock that differs or jumps keeps nobody warm for long and lets nobody lapse early.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_SESSION = re.compile(r"[^\x00-\x1f\x7f-\x9f{}\u2028\u2029]{1,256}\Z")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z")
"""The form of names that the broker takes for a session key and for a model."""


class Origin(StrEnum):
    """Who began a session."""

    PERSON = "person"
    SPAWNED = "spawned"
    AUTOMATIC = "automatic"
    """Cron or the gateway itself began it."""


class Phase(StrEnum):
    """What a session's last run is doing."""

    NEW = "new"
    """There was no run yet since the session began or was reset."""
    RUNNING = "running"
    RESTING = "resting"
    STOPPED = "stopped"
    """Somebody stopped the last run (``/stop``)."""


class WarmVerdict(StrEnum):
    """What becomes of a session's warm lease."""

    KEEP = "keep"
    LAPSE = "lapse"
    GIVE_BACK = "give_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReading:
    """One conversation as a source shows it. Stamps are epoch seconds of the source's clock; None: never."""

    key: str
    origin: Origin
    phase: Phase
    model: str | None
    """``provider/model`` that the next turn will call; None: the source cannot tell."""
    interacted_s: float | None
    run_started_s: float | None
    sign_s: float | None
    """When anything of it changed last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a source saw at one moment."""

    sessions: tuple[SessionReading, ...]
    now_s: float
    """Time of the source's own clock, epoch seconds."""
    faults: tuple[str, ...] = ()
    """Parts that could not be read; the sessions are those of the other parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivitySettings:
    """The numbers of the rule above, in seconds."""

    active_s: float = 900.0
    silent_run_s: float = 2100.0
    ttl_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNames:
    """How OpenClaw's model names become ours."""

    names: Mapping[str, str]
    """The catalogue's names, by ``provider/model``."""
    providers: frozenset[str]
    """Providers that are brokers of ours: their models keep their names."""
    default: str | None = None
    """``provider/model`` of sessions that do not say; None: those keep nothing warm."""

    def ours(self, model: str | None) -> str | None:
        """Return the catalogue's name; None where the model is not ours."""
        named = model or self.default
        if named is None:
            return None
        provider, _, name = named.partition("/")
        return self.names.get(named) or (name if name and provider in self.providers else None)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Warm:
    """A warm lease: of which session, and on which model."""

    session: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPlan:
    """What to publish now: the leases to renew, and those to give back."""

    renew: tuple[Warm, ...]
    release: tuple[Warm, ...]
    kept: int
    """How many sessions keep a model warm, those renewed recently enough included."""
    foreign: tuple[str, ...] = ()
    """``provider/model`` of sessions in progress whose model is not ours; ``?`` where the source cannot tell."""


@dataclass(slots=True)
class _Seen:
    """A stamp of the source, and when it was new on our own clock."""

    stamp_s: float
    at_s: float


@dataclass(slots=True)
class SessionWatch:
    """Remembers sessions from reading to reading; there is one per poller."""

    settings: ActivitySettings
    models: ModelNames
    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    _published: dict[str, dict[str, float]] = field(default_factory=dict)
    """When a renewal was last accepted, by session and model, steady seconds."""
    _last_s: float | None = None

    def plan(self, reading: Reading, now_s: float) -> PublishPlan:
        """Judge every session, and plan what to publish.

        Args:
            reading: What the source saw.
            now_s: A steady clock's time, seconds.
        """
        keep: set[Warm] = set()
        give_back: set[Warm] = set()
        foreign: set[str] = set()
        for session in reading.sessions:
            verdict = self.judge(session, reading.now_s, now_s)
            warm = self._warm(session)
            if verdict is WarmVerdict.KEEP:
                foreign |= set() if warm else {session.model or "?"}
                keep |= {warm} if warm else set()
            if verdict is not WarmVerdict.LAPSE:
                give_back |= self._others(session.key, warm if verdict is WarmVerdict.KEEP else None)
        self._forget(reading, now_s)
        due = {warm for warm in keep if self._since_published_s(warm, now_s) >= self.settings.ttl_s / 3}
        return PublishPlan(
            renew=tuple(sorted(due)),
            release=tuple(sorted(give_back)),
            kept=len(keep),
            foreign=tuple(sorted(foreign)),
        )

    def judge(self, session: SessionReading, source_now_s: float, now_s: float) -> WarmVerdict:
        """Judge one session by the numbered rule of this module."""
        talked_s = self._age_s(session.key, "talk", session.interacted_s, source_now_s, now_s)
        silent_s = self._age_s(session.key, "sign", session.sign_s, source_now_s, now_s)
        if session.origin is Origin.AUTOMATIC:  # 1
            return WarmVerdict.LAPSE
        if session.phase is Phase.STOPPED:  # 2
            return WarmVerdict.GIVE_BACK
        if session.phase is Phase.RUNNING and self._is_answering(session) and silent_s <= self.settings.silent_run_s:
            return WarmVerdict.KEEP  # 3
        spawned = session.origin is Origin.SPAWNED
        if session.phase is (Phase.RESTING if spawned else Phase.NEW):  # 4
            return WarmVerdict.GIVE_BACK
        return WarmVerdict.KEEP if talked_s <= self.settings.active_s else WarmVerdict.LAPSE  # 5

    def _warm(self, session: SessionReading) -> Warm | None:
        model = self.models.ours(session.model)
        if model is None or not _MODEL.match(model) or not _SESSION.match(session.key):
            return None
        return Warm(session=session.key, model=model)

    def published(self, warm: Warm, now_s: float) -> None:
        """Note that a renewal was accepted: it is not due again before a third of the TTL."""
        self._published.setdefault(warm.session, {})[warm.model] = now_s

    def released(self, warm: Warm) -> None:
        """Note that a release was accepted: the session no longer keeps the model warm."""
        self._published.get(warm.session, {}).pop(warm.model, None)

    def _since_published_s(self, warm: Warm, now_s: float) -> float:
        at_s = self._published.get(warm.session, {}).get(warm.model)
        return float("inf") if at_s is None else now_s - at_s

    def _is_answering(self, session: SessionReading) -> bool:
        if session.interacted_s is None:
            return False
        started_s = session.run_started_s
        return started_s is None or started_s - session.interacted_s <= self.settings.active_s

    def _age_s(self, key: str, kind: str, stamp_s: float | None, source_now_s: float, now_s: float) -> float:
        if stamp_s is None:
            return float("inf")
        seen = self._seen.get((key, kind))
        if seen is None or seen.stamp_s != stamp_s:
            age_s = max(0.0, source_now_s - stamp_s)
            if seen is not None and self._last_s is not None:
                age_s = min(age_s, now_s - self._last_s)  # it changed since the last reading
            seen = self._seen[key, kind] = _Seen(stamp_s, now_s - age_s)
        return now_s - seen.at_s

    def _others(self, session: str, but: Warm | None) -> set[Warm]:
        """Return what this session was kept warm for before, other than ``but``."""
        names = self._published.get(session, {})
        return {warm for warm in (Warm(session=session, model=name) for name in names) if warm != but}

    def _forget(self, reading: Reading, now_s: float) -> None:
        """Drop sessions that are gone (unless something could not be read) and leases that have lapsed."""
        self._last_s = now_s
        if not reading.faults:
            keys = {session.key for session in reading.sessions}
            for gone in [place for place in self._seen if place[0] not in keys]:
                del self._seen[gone]
        for session, models in list(self._published.items()):
            live = {model: at_s for model, at_s in models.items() if now_s - at_s <= self.settings.ttl_s}
            if live:
                self._published[session] = live
            else:
                del self._published[session]
