"""``[gateway]`` of ``hotseat.toml``: how ``/v1`` waits for its leases and what it may take."""

import os
import re
import socket
from typing import Self

from pydantic import Field, model_validator

from broker.gateway.requests.patience import PatienceLimits
from broker.gateway.trust.deaths import MAX_DEATHS, DeathRules
from broker.gateway.trust.signs import SignSettings
from broker.gateway.trust.suspicion import SuspicionSettings
from broker.http_client.connection_pool import Timing
from schemas.config.file import Section

MIB = 1024 * 1024
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_LIMITS = PatienceLimits()
_TIMING = Timing()
_SUSPICION = SuspicionSettings()
_SIGNS = SignSettings()


class GatewaySection(Section):
    """``[gateway]``: the data path, ``/v1``."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Name of this broker among those on one store: no other's, and the same after a restart, so that what the process
    before held is known to be over at once. None: host name and port, or process id where ``port = 0``."""
    commit_after_s: float = Field(default=_LIMITS.commit_after_s, ge=0, le=3600)
    """A streaming client waits so long in silence, seconds; then its answer begins with keepalives. Until then an error
    can still be an HTTP status; the shortest limit seen in clients and proxies is 10 s."""
    keepalive_s: float = Field(default=_LIMITS.keepalive_s, gt=0, le=600)
    """How often keepalives are sent, seconds: twice within the shortest idle limit seen."""
    max_silent_s: float = Field(default=_LIMITS.max_silent_s, gt=0, le=3600)
    """A client of which nobody knows how long it waits is told to come back (429, ticket kept) after this, seconds;
    below the 60 s of common proxies. One that says after how long it gives up, as the official SDKs do, is held until
    shortly before that."""
    longest_silent_s: float = Field(default=_LIMITS.longest_silent_s, gt=0, le=86_400)
    """No client is held in silence for longer, seconds: ten minutes are what the official SDKs allow as they come.
    Lower it to below the read time-out of a proxy in front of this broker."""
    max_wait_s: float = Field(default=_LIMITS.max_wait_s, gt=0, le=86_400)
    """A begun answer that still has no lease ends after this, seconds; below the 1800 s that clients are advised to
    allow. A stream whose forecast is beyond is not begun but told to come back."""
    max_body_mib: int = Field(default=32, ge=1, le=4096)
    """Largest body of one request, MiB; a page of images as base64 has about 10."""
    max_bodies_mib: int = Field(default=1024, ge=1, le=1024 * 1024)
    """How much the bodies of all open requests may take together, MiB: they are kept for a retry."""
    max_open: int = Field(default=10_000, ge=1, le=1_000_000)
    """Most open requests of one process, waiting ones included."""
    answer_kept_s: float = Field(default=120.0, ge=0, le=3600)
    """The answer to a request with an ``Idempotency-Key`` is kept in memory for its caller, who may ask the same again,
    seconds: longer than SDKs take to do so. 0: the header means nothing."""
    max_answers_mib: int = Field(default=64, ge=1, le=64 * 1024)
    """How much all such answers may take together, MiB; the caller that has most loses its oldest first. One has 8 at
    most."""
    reader_stall_s: float = Field(default=120.0, gt=0, le=86_400)
    """A client that reads nothing for this long loses its answer and its lease, seconds; seen at each renewal. What is
    left to send to it is dropped, and its connection cut, as long again after that."""
    first_byte_s: float = Field(default=_TIMING.first_byte_s, gt=0, le=86_400)
    """How long a model server's first byte may take from the request on, seconds; without streaming that is the whole
    generation."""
    sign_of_life_s: float = Field(default=_SIGNS.least_s, gt=0, le=86_400)
    """A request that its model server owes a first sign of life for several times as long as the model usually takes
    for a prompt of its size, and at least this long, seconds, makes the worker ask that server for a token: one that
    gives none and does nothing is restarted. See ``worker.prove_timeout_s``."""
    sign_of_life_unknown_s: float = Field(default=_SIGNS.unknown_s, gt=0, le=86_400)
    """The same for a model whose usual times are not known yet, seconds."""
    stall_s: float = Field(default=_TIMING.stall_s, gt=0, le=86_400)
    """How long nothing may come between two pieces of its answer, seconds."""
    head_s: float = Field(default=1.0, ge=0, le=60)
    """The beginning of an answer in which nothing can be seen yet is kept back this long at most, seconds: until
    something of it was sent, an answer that turns out to be of no use is asked for once more and nobody notices."""
    suspect_at: float = Field(default=_SUSPICION.suspect_at, gt=0, le=1000)
    """Bad answers in a row of one session, good ones taken off at a quarter each, after which a model is tested and
    that session's requests go elsewhere first; where two keys (or sessions without one) have half of it each,
    everybody's do. Only a model that fails its test is quarantined: 503 ``model_quarantined`` until it passes one."""
    canary_pause_s: float = Field(default=5.0, gt=0, le=3600)
    """How long this broker pauses between two test questions, seconds: they take a lease and GPU time."""
    canary_timeout_s: float = Field(default=_SUSPICION.canary_timeout_s, gt=0, le=3600)
    """A test question that has no answer after this, with nobody else on the model, has found silence, seconds; a model
    that is silent twice has failed. Waiting for a lease does not count."""
    quarantine_s: float = Field(default=_SUSPICION.quarantine_s, gt=0, le=86_400)
    """How long the first test waits after a quarantine began, seconds; doubles with each that fails, up to
    ``quarantine_max_s``."""
    quarantine_max_s: float = Field(default=_SUSPICION.quarantine_max_s, gt=0, le=864_000)
    """The longest such pause, seconds."""
    strict: bool = False
    """Hold the answer to a request that names a JSON schema against it, as with ``x-hotseat-validate: strict``, whoever
    asks; a ``[[model]]`` and a ``[[key]]`` may say otherwise, and the header goes before all."""
    deaths_at: int = Field(default=3, ge=2, le=MAX_DEATHS)
    """How many deaths of a model's server at work, within an hour, have what they have in common refused: the same
    request, a kind of request, a length, a session, a key; for ``quarantine_s``, which doubles as there."""
    dead_server_s: float = Field(default=5.0, gt=0, le=300)
    """A model server that broke off before its first byte is given this long to be reported dead before the request is
    tried again where it was, seconds; workers report within one."""
    report_every_s: float = Field(default=5.0, gt=0, le=300)
    """What was counted for `hotseat report` goes to the store this often, seconds: a killed broker loses this much."""
    report_kept_days: int = Field(default=400, ge=1, le=3650)
    """A day's counts are kept so long, days: a year and the month to compare; some 10 KiB a day."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_body_mib > self.max_bodies_mib:
            raise ValueError("max_body_mib must not be above max_bodies_mib")
        return self

    def limits(self) -> PatienceLimits:
        """The waiting contract's numbers."""
        return PatienceLimits(
            commit_after_s=self.commit_after_s,
            keepalive_s=self.keepalive_s,
            max_silent_s=self.max_silent_s,
            longest_silent_s=self.longest_silent_s,
            max_wait_s=self.max_wait_s,
        )

    def suspicion(self) -> SuspicionSettings:
        """When a model's answers count against it."""
        return SuspicionSettings(
            suspect_at=self.suspect_at,
            canary_timeout_s=self.canary_timeout_s,
            quarantine_s=self.quarantine_s,
            quarantine_max_s=self.quarantine_max_s,
        )

    def deaths(self) -> DeathRules:
        """When what a model's server dies of is refused."""
        return DeathRules(deaths_at=self.deaths_at, pause_s=self.suspicion().pause_s)

    def signs(self) -> SignSettings:
        """How long a model server may be silent."""
        return SignSettings(
            least_s=self.sign_of_life_s, unknown_s=self.sign_of_life_unknown_s, longest_s=self.first_byte_s
        )

    def timing(self) -> Timing:
        """What model servers are allowed."""
        return Timing(first_byte_s=self.first_byte_s, stall_s=self.stall_s)

    def broker_name(self, port: int) -> str:
        """Return the configured ``name``, or else one made of the host's name and the port."""
        return self.name or f"{_UNFIT.sub('-', socket.gethostname())[:48]}-{port or f'p{os.getpid()}'}"

    def report_times(self) -> tuple[float, float]:
        """How often counts leave, and how long they are kept, seconds."""
        return self.report_every_s, self.report_kept_days * 86_400.0
