"""Carrying out reconcile's answers ends, with exactly what was wanted, and never breaks a rule on the way."""

from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.slot.reconcile import Load, Reject, Resident, Unload, Wanted, reconcile
from schemas.residency import Residency

MODELS = ("a", "b", "c", "d")
footprints = st.fixed_dictionaries({model: st.integers(1, 500) for model in MODELS[:3]})
wishes = st.dictionaries(st.sampled_from(MODELS), st.integers(1, 20)).map(
    lambda wanted: [Wanted(model=model, generation=generation) for model, generation in wanted.items()]
)
depths = st.sampled_from(list(Residency))
places = st.dictionaries(st.sampled_from(MODELS), st.tuples(st.integers(1, 20), depths))


def resident(model, generation, depth):
    return Resident(model=model, generation=generation, depth=depth)


class Slot:
    """A slot whose servers load and unload when they are told to, as the supervisor would."""

    def __init__(self, places, footprints, budget_mib):
        self.places = dict(places)
        self.footprints = footprints
        self.budget_mib = budget_mib
        self.taken = []

    def step(self, wanted):
        residents = [resident(model, *place) for model, place in self.places.items()]
        return reconcile(wanted, residents, footprints_mib=self.footprints, budget_mib=self.budget_mib)

    def carry_out(self, step):
        self.taken.append(step)
        match step:
            case Unload(model=model, generation=generation):
                assert self.places[model][0] == generation
                self.places[model] = (generation, Residency.UNLOADING)
            case Reject(model=model, generation=generation):
                assert model not in self.places
                self.places[model] = (generation, Residency.FAILED)
            case Load(model=model, generation=generation):
                assert model not in self.places, "two servers for one model"
                assert not self.moving(), "a load while memory is moving"
                self.places[model] = (generation, Residency.LOADING)
                assert self.used_mib() <= self.budget_mib, "memory_fits"

    def moving(self):
        return [m for m, (_, depth) in self.places.items() if depth in {Residency.LOADING, Residency.UNLOADING}]

    def used_mib(self):
        live = {Residency.LOADING, Residency.READY}
        return sum(self.footprints.get(m, 0) for m, (_, depth) in self.places.items() if depth in live)

    def let_time_pass(self, outcome):
        for model in self.moving():
            generation, depth = self.places[model]
            if depth is Residency.UNLOADING:
                del self.places[model]
            else:
                self.places[model] = (generation, outcome)


@given(wishes, places, footprints, st.integers(0, 1500), st.sampled_from([Residency.READY, Residency.FAILED]))
def test_reconcile_converges(wanted, places, footprints, budget_mib, outcome):
    slot = Slot(places, footprints, budget_mib)
    for _ in range(5 * len(MODELS)):
        step = slot.step(wanted)
        if step is not None:
            slot.carry_out(step)
        elif slot.moving():
            slot.let_time_pass(outcome)
        else:
            break
    else:
        raise AssertionError("does not converge")
    assert {(model, place[0]) for model, place in slot.places.items()} == {(w.model, w.generation) for w in wanted}
    assert slot.step(wanted) is None


@given(st.lists(wishes, min_size=1, max_size=5), footprints, st.integers(0, 1500), st.data())
def test_changing_orders_never_break_a_rule_on_the_way(orders, footprints, budget_mib, data):
    slot = Slot({}, footprints, budget_mib)
    for wanted in orders:
        for _ in range(data.draw(st.integers(0, 8))):
            step = slot.step(wanted)
            if step is not None:
                slot.carry_out(step)
            elif data.draw(st.booleans()):
                slot.let_time_pass(Residency.READY)


@given(wishes, places, footprints, st.integers(0, 1500), st.randoms(use_true_random=False))
def test_reconcile_is_deterministic(wanted, places, footprints, budget_mib, random):
    first = Slot(places, footprints, budget_mib).step(wanted)
    shuffled = list(places.items())
    random.shuffle(shuffled)
    random.shuffle(wanted)
    assert Slot(dict(shuffled), footprints, budget_mib).step(wanted) == first
