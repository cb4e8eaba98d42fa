"""Two hosts' workers claim one slot and are started again and again: the first keeps it while it lives."""

import httpx
import pytest

from gpu_worker.cli import EXIT_SLOT_TAKEN
from harness.broker_process import BrokerProcess
from tests.integration.worker.conftest import Workplace, eventually

pytestmark = [pytest.mark.redis, pytest.mark.slow]


@pytest.fixture
def broker(valkey):
    process = BrokerProcess(f"unix://{valkey.socket}", extra="[limits]\nsilence_s = 3\n")
    yield process.until_ready()
    process.stop()


@pytest.fixture
def host(valkey, tmp_path):
    places = []

    def made(name, **worker):
        (tmp_path / name).mkdir()
        place = Workplace(tmp_path / name, f"unix://{valkey.socket}", worker={"name": name, "beat_s": 0.2, **worker})
        places.append(place.fake("a"))
        return place

    yield made
    for place in places:
        place.end()


def slot(broker):
    slots = httpx.get(f"{broker.url}/status").json()["slots"]
    return slots[0] if slots else {}


def test_the_first_keeps_the_slot_and_its_leases_and_the_second_has_it_when_the_first_is_dead(broker, host):
    first = host("host1", adopt_grace_s=0.0).start()
    body = {"sessionKey": "s", "model": "a", "ttlSeconds": 60, "wait": 30}
    lease = httpx.post(f"{broker.url}/lease", json=body, timeout=40).json()
    assert lease["state"] == "active"

    impatient, rival = host("host2", claim_wait_s=1.0), None
    for _ in range(2):  # its service manager does not give up
        rival = impatient.start()
        assert rival.wait(20) == EXIT_SLOT_TAKEN
        assert first.poll() is None
        assert slot(broker)["worker"] == "host1"
    assert "slot 'gpu0' is served by worker 'host1' of another host" in impatient.log()
    assert httpx.get(f"{broker.url}/lease/{lease['leaseId']}").json()["state"] == "active"

    patient = host("host3")
    patient.start()
    eventually(lambda: "slot_taken" in patient.log(), what="the refusal")
    first.kill()
    first.wait(60)
    eventually(lambda: slot(broker).get("worker") == "host3", what="the slot being the second's")
