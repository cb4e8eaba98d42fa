"""A broker in whose pool no worker ever reported says so."""

from types import SimpleNamespace

from broker.api.pool.nobody_works import PATIENCE_S, watch_for_workers


class Pool:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.slots: tuple[str, ...] = ()
        self.warnings = watch_for_workers("redis://store/0, pool 'p'", self.picture, lambda: self.now_s)

    def picture(self):
        return SimpleNamespace(snapshot=SimpleNamespace(slots=self.slots))


def test_a_pool_without_workers_is_told_with_store_and_pool():
    pool = Pool()
    assert pool.warnings() == ()
    pool.now_s = PATIENCE_S
    (said,) = pool.warnings()
    assert "redis://store/0, pool 'p'" in said
    assert "of their [store] must be those of this broker" in said


def test_a_worker_that_once_reported_is_enough():
    pool = Pool()
    pool.now_s, pool.slots = PATIENCE_S, ("gpu0",)
    assert pool.warnings() == ()
