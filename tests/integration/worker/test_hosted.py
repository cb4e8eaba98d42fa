"""Models of servers that are somebody else's service, on a slot of a real worker, and through a real broker."""

import os
import signal
import urllib.request

import pytest

from tests.fakes.hosted import OllamaService
from tests.integration.worker.conftest import eventually
from tests.integration.worker.test_with_a_broker import Pool

pytestmark = pytest.mark.redis
NAME = "a:latest"


@pytest.fixture
def serve():
    """Starts such a server."""
    running = []

    def start(kind, *flags, **options):
        running.append(service := kind(*flags, **options))
        return service

    yield start
    for service in running:
        service.kill()


@pytest.fixture
def pool(workplace):
    one = Pool(workplace)
    yield one
    one.end()


def with_ollama(workplace, service, served_name=NAME, **entry):
    own = {"url": service.url}
    workplace.models.append(
        {"name": "a", "memory_mib": 600, "driver": "ollama", "served_name": served_name, "ollama": own} | entry
    )
    return workplace


# ------------------------------------------------------------------------------------------------------------- ollama
def test_an_ollama_answers_through_the_broker(pool, workplace, serve):
    service = serve(OllamaService)
    with_ollama(workplace, service)
    pool.start()
    answer, _ = pool.ask("a")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].startswith("tok0")
    assert {"path": "/api/generate", "model": NAME, "keep_alive": -1, "stream": False} in service.get("/said")["said"]


def test_a_slot_holds_a_model_of_an_ollama_and_gives_it_back(workplace, hand, serve):
    service = serve(OllamaService)
    with_ollama(workplace, service).start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "ready")
    assert report["url:a"] == f"{service.url}/v1"
    eventually(lambda: hand.report()["mib:a"] == "700", what="what Ollama says of its memory in the report")
    assert service.loaded() == {NAME}
    hand.load()
    hand.until_absent("a")
    assert service.loaded() == set()
    assert not list(workplace.state_dir.rglob("ollama/*.json"))


def test_a_model_that_is_not_pulled_says_so_in_words_of_ollama_and_is_loaded_once_it_is(workplace, hand, serve):
    service = serve(OllamaService, pulled=("b:latest",))
    with_ollama(workplace, service).start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "failed")
    assert report["error:a"] == f"ollama: model '{NAME}' not found; pull it with: ollama pull {NAME}"
    assert report["failure:a"] == "permanent"
    assert report["unsound:a"] == f"not pulled; pull it with: ollama pull {NAME}"
    urllib.request.urlopen(urllib.request.Request(f"{service.url}/pull", method="POST"), timeout=5)
    hand.load()
    hand.until_absent("a")
    hand.load("a")
    hand.until("a", "ready")


def test_an_ollama_that_is_away_is_the_hosts_doing(workplace, hand, serve):
    service = serve(OllamaService)
    service.kill()
    with_ollama(workplace, service).start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "failed")
    assert report["error:a"].startswith(f"nobody answers at {service.url}")
    assert report["failure:a"] == "host"


def test_a_model_that_somebody_else_unloads_is_lost_and_said_to_be(workplace, hand, serve):
    service = serve(OllamaService)
    with_ollama(workplace, service).start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    service.get("/forget")
    assert "does not list it any more" in hand.until("a", "failed")["error:a"]


def test_the_next_worker_adopts_what_a_killed_one_had_loaded(workplace, hand, serve):
    service = serve(OllamaService)
    worker = with_ollama(workplace, service).start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    boot = hand.boot
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(60)
    workplace.start()
    assert hand.register(not_boot=boot)["state:a"] == "ready"
    assert len([one for one in service.get("/said")["said"] if one["keep_alive"] == -1]) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.3])
def test_a_worker_killed_while_it_loads_leaves_nothing_that_the_next_one_does_not_find(workplace, hand, serve, delay_s):
    service = serve(OllamaService, "--load-delay", "0.2")
    worker = with_ollama(workplace, service).start()
    hand.register()
    boot = hand.boot
    hand.load("a")
    eventually(lambda: list(workplace.state_dir.rglob("ollama/*.json")), what="the note")
    signal.sigtimedwait([], delay_s)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(60)
    hand.wants = {}
    hand.write()
    workplace.start()
    hand.register(not_boot=boot)
    hand.load()
    hand.until_absent("a")
    assert service.loaded() == set()
    assert not list(workplace.state_dir.rglob("ollama/*.json"))
