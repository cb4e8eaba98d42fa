"""What one ticket is told: at once, later, and of a picture that does not know it yet."""

from dataclasses import replace

import pytest

from broker.core.lease import Intent, LeaseId, LeaseRecord, LeaseState, ModelName, Nonce, Priority, SessionHash
from broker.core.snapshot import ResidencyView
from broker.policy.decide import PolicySettings, decide
from broker.policy.forecast import forecast
from broker.scheduling import forecasts
from broker.scheduling.forecasts import MOST_TOLD, Forecasts
from broker.scheduling.scheduler import Round
from broker.store.port import Event
from schemas.residency import Residency
from tests.fakes.policy_scene import NOW_S, A, B, lease, model, picture, ready, slot

POLICY = PolicySettings()


class Scene:
    """A scheduler's last look, and a clock."""

    def __init__(self, models, *slots) -> None:
        self.now_s = 100.0
        snapshot = picture(models, *slots)
        self.last = Round(snapshot=snapshot, plan=decide(snapshot, POLICY), at_s=100.0)
        self.forecasts = Forecasts(last=lambda: self.last, policy=POLICY, clock=lambda: self.now_s)

    def told(self, name=A, **fields):
        return self.forecasts.of(ticket(name, **fields))


def ticket(name=A, *, lease_id="L1", position=1, **fields):
    record = LeaseRecord(
        lease_id=LeaseId(lease_id), nonce=Nonce("n"), session="s", session_hash=SessionHash("sh"),
        model=ModelName(name), intent=Intent.USE, holder="", priority=Priority.NORMAL, who="k",
        state=LeaseState.QUEUED, reason="", arrival=100, position=position, waited_s=0.0, held_s=0.0,
        expires_in_s=60.0, ttl_s=60.0, expected_s=0.0, slot=None, generation=0, base_url="", api_key="",
        residency="absent", progress=0, now_s=NOW_S,
    )  # fmt: skip
    return replace(record, **fields)


def granted(lease_id, at_s):
    return Event(event_id="1-1", sequence=1, kind="granted", at_s=at_s, fields={"lease": lease_id})


def test_a_ticket_newer_than_the_picture_waits_for_the_model_that_is_there():
    """Before, it was taken for the next one of a model that nobody waited for: at once."""
    busy = slot(ready(B, leases=1), leases=[lease(B, expected_s=60.0, granted_s=NOW_S - 1.0)])
    told = Scene([model(A), model(B)], busy).told()
    assert told.eta_s > 15.0
    assert told.wait_reason == "draining_other"


def test_a_ticket_behind_others_that_the_picture_lacks_waits_for_them_too():
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    scene = Scene([model(A, waiting=1)], full)
    assert scene.told(position=9).eta_s > scene.told(position=2).eta_s + 20.0


def test_the_picture_is_brought_up_to_the_moment():
    loading = ResidencyView(model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - 2.0)
    scene = Scene([model(A, waiting=1)], slot(loading))
    before = scene.told().eta_s
    scene.now_s += 4.0
    assert before - scene.told().eta_s == pytest.approx(4.0, abs=0.7)


def test_a_hold_that_outlasts_what_was_learned_moves_the_estimate_as_it_goes():
    """35 s stood for four minutes of a hold of 340 s."""

    def told(ran_s):
        held = slot(ready(A, leases=1), leases=[lease(A, granted_s=NOW_S - ran_s)])
        return Scene([model(A, waiting=1, lease_limit=1)], held).told()

    times = [told(ran_s) for ran_s in (5.0, 100.0, 200.0, 340.0)]
    assert times[1].eta_s > times[0].eta_s
    assert times[2].eta_s > times[1].eta_s + 50.0
    assert times[3].eta_s > times[2].eta_s + 50.0


def test_a_grant_teaches_what_its_forecasts_were_worth():
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    scene = Scene([model(A, waiting=1)], full)
    before = scene.told(lease_id="first")
    scene.forecasts.note(granted("first", NOW_S + 1.0))
    for number in range(100):
        scene.told(lease_id=f"L{number}")
        scene.forecasts.note(granted(f"L{number}", NOW_S + 100.0))
    after = scene.told()
    assert after.eta_s > before.eta_s + 20.0
    assert after.low_s <= 100.0 <= after.high_s


def test_a_ticket_that_left_teaches_nothing_and_memory_is_bounded():
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    scene = Scene([model(A, waiting=1)], full)
    for number in range(MOST_TOLD // 50):
        for age_s in (0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0):
            scene.told(lease_id=f"L{number}", waited_s=age_s)
    told = scene.forecasts._told
    assert {len(one.said) for one in told.values()} == {5}
    scene.forecasts.note(Event(event_id="1-1", sequence=1, kind="ended", at_s=NOW_S, fields={"lease": "L1"}))
    assert LeaseId("L1") not in told
    assert not scene.forecasts.calibration._kinds


def test_an_unknown_model_and_no_picture_are_no_forecast():
    scene = Scene([model(A)], slot())
    assert scene.told("zz") is None
    scene.last = None
    assert scene.told() is None


def test_a_queue_is_reckoned_once_for_all_its_tickets_until_the_picture_or_the_time_has_moved_on(monkeypatch):
    reckoned = []

    def counted(snapshot, plan, name, settings):
        reckoned.append(snapshot.now_s)
        return forecast(snapshot, plan, name, settings)

    monkeypatch.setattr(forecasts, "forecast", counted)
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    scene = Scene([model(A, waiting=50)], full)
    etas_s = [scene.told(lease_id=f"L{number}", position=number).eta_s for number in range(1, 51)]
    assert etas_s == sorted(etas_s)
    assert len(reckoned) == 1
    scene.now_s += 1.0
    scene.told(position=1)
    assert len(reckoned) == 2
    scene.last = Round(snapshot=scene.last.snapshot, plan=scene.last.plan, at_s=scene.now_s)
    scene.told(position=1)
    assert len(reckoned) == 3
