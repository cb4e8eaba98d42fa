import pytest

from broker.core.decisions import WaitReason
from broker.core.snapshot import FailureView, ResidencyView
from broker.policy.decide import PolicySettings, decide
from broker.policy.forecast import forecast
from schemas.residency import Residency
from tests.fakes.policy_scene import NOW_S, A, B, C, lease, model, picture, ready, slot


def of(name, position, models, *slots):
    snapshot = picture(models, *slots)
    return forecast(snapshot, decide(snapshot, PolicySettings()), name).at(position)


def test_a_busy_model_frees_a_place_every_mean_over_limit():
    full = slot(ready(A, leases=4), leases=[lease(A, i) for i in range(4)])
    times = [of(A, p, [model(A, waiting=3)], full).eta_s for p in (1, 2, 3)]
    assert times == pytest.approx([5.0, 10.0, 15.0])


def test_a_load_under_way_counts_what_is_left():
    loading = ResidencyView(model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - 5.0)
    found = of(A, 1, [model(A, waiting=1)], slot(loading))
    assert found.eta_s == pytest.approx(10.0)
    assert found.reason == WaitReason.LOADING
    assert found.low_s < 10.0 < found.high_s


def loading_for(seconds, **more):
    under_way = ResidencyView(model=A, state=Residency.LOADING, generation=4, memory_mib=10, started_s=NOW_S - seconds)
    return of(A, 1, [model(A, waiting=1, **more)], slot(under_way))


def test_a_load_that_outlasts_what_was_reckoned_moves_the_estimate_as_it_goes():
    times = [loading_for(seconds, load_s=3.0, load_sd_s=5.0).eta_s for seconds in (2.0, 60.0, 240.0)]
    assert times == pytest.approx([1.0, 60.0, 240.0])
    late = loading_for(60.0, load_s=3.0, load_sd_s=5.0)
    assert (late.low_s, late.high_s) == pytest.approx((0.0, 168.0))


def test_a_load_that_is_a_little_late_is_about_to_end():
    assert loading_for(4.4, load_s=4.0, load_sd_s=0.05).eta_s == pytest.approx(0.4)


def test_the_second_in_line_waits_for_the_first_models_turn():
    models = [model(A), model(B, waiting=4), model(C, waiting=1)]
    scene = slot(ready(A, leases=1), leases=[lease(A)])
    first, second = of(B, 1, models, scene), of(C, 1, models, scene)
    assert first.reason == WaitReason.DRAINING_OTHER
    assert second.reason == WaitReason.OTHER_MODEL_FIRST
    assert second.eta_s > first.eta_s + 30.0


def test_nobody_can_serve_it():
    assert of(B, 1, [model(B, waiting=1)]).reason == "unknown: no_slot"
    failure = FailureView(model=B, fails=3, retry_at_s=NOW_S + 9.0, quarantined=True)
    found = of(B, 1, [model(B, waiting=1)], slot(failures=(failure,)))
    assert (found.eta_s, found.low_s, found.high_s, found.reason) == (None, None, None, "unknown: quarantined")


def test_a_back_off_has_an_end():
    failure = FailureView(model=B, fails=1, retry_at_s=NOW_S + 40.0, quarantined=False)
    assert of(B, 1, [model(B, waiting=1)], slot(failures=(failure,))).eta_s == pytest.approx(55.0)


def test_a_holder_without_history_makes_it_unknown():
    models = [model(A, hold_n=0), model(B, waiting=1)]
    found = of(B, 1, models, slot(ready(A, leases=1), leases=[lease(A)]))
    assert found.reason == "unknown: no lease of a has ended yet"


def test_an_estimate_stands_in_for_history():
    models = [model(A, hold_n=0), model(B, waiting=1)]
    found = of(B, 1, models, slot(ready(A, leases=1), leases=[lease(A, expected_s=40.0)]))
    assert 15.0 < found.eta_s < 60.0
