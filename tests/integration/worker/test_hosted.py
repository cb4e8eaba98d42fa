"""Models of servers that are somebody else's service, on a slot of a real worker, and through a real broker."""

import os
import signal
import urllib.request

import pytest

from tests.fakes.hosted import ControlService, OllamaService
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


# --------------------------------------------------------------------------------------------------------------- http
MANNERS = sorted(ControlService.MANNERS)


def with_http(workplace, service, name="a", **own):
    workplace.models.append({"name": name, "memory_mib": 600, "driver": "http", "http": service.table() | own})
    return workplace


def test_a_server_of_any_kind_answers_through_the_broker(pool, workplace, serve):
    with_http(workplace, serve(ControlService, manner="lmstudio"))
    pool.start()
    answer, _ = pool.ask("a")
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].startswith("tok0")


@pytest.mark.parametrize("manner", MANNERS)
def test_a_model_is_loaded_adopted_and_unloaded_in_the_manner_of_its_server(workplace, hand, serve, manner):
    service = serve(ControlService, "--load-delay", "0.1", manner=manner, knows=("a", "b"))
    worker = with_http(with_http(workplace, service), service, "b", advertise_url="http://gpu-box:1").start()
    workplace.slot["budget_mib"] = 2000
    hand.register()
    hand.load("a")
    assert hand.until("a", "ready")["url:a"] == f"{service.url}/v1"
    assert service.loaded() == {"a"}
    boot = hand.boot
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(60)
    workplace.start()
    assert hand.register(not_boot=boot)["state:a"] == "ready"
    hand.load("a", "b")
    assert hand.until("b", "ready")["url:b"] == "http://gpu-box:1/v1"
    assert len(service.get("/said")["loaded"]) == 2, "no second instance"
    hand.load("b")
    hand.until_absent("a")
    assert service.loaded() == {"b"}
    hand.load()
    hand.until_absent("b")
    assert service.loaded() == set()


@pytest.mark.parametrize(
    "manner, words",
    [
        ("lmstudio", "load: Model a not found in downloads"),
        ("lemonade", "load: Model not found: a"),
        ("llamaswap", "load: could not find real modelID for a"),
        ("script", "load: no file for a"),
    ],
)
def test_a_refusal_is_told_in_the_servers_own_words(workplace, hand, serve, manner, words):
    with_http(workplace, serve(ControlService, manner=manner, knows=("b",))).start()
    hand.register()
    hand.load("a")
    report = hand.until("a", "failed")
    assert (report["error:a"], report["failure:a"]) == (words, "permanent")


def test_a_key_is_shown_and_a_wrong_one_is_refused(workplace, hand, serve, tmp_path):
    key = tmp_path / "key"
    key.write_text("right\n")
    service = serve(ControlService, "--wants-key", "right", manner="lmstudio")
    with_http(workplace, service, api_key_file=str(key))
    workplace.models[-1]["health_path"] = "/v1/models"
    workplace.start()
    hand.register()
    hand.load("a")
    hand.until("a", "ready")
    key.write_text("wrong\n")
    assert "401: Malformed LM Studio API token" in hand.until("a", "failed")["error:a"]
    assert "right" not in workplace.log()


def test_a_load_that_is_not_wanted_any_more_is_waited_for_and_unloaded(workplace, hand, serve):
    """LM Studio goes on with a load whose caller hangs up."""
    service = serve(ControlService, "--load-delay", "1.5", manner="lmstudio")
    with_http(workplace, service).start()
    hand.register()
    hand.load("a")
    eventually(lambda: any("load" in path for path, _ in service.get("/said")["said"]), what="the load")
    hand.load()
    hand.until_absent("a")
    assert service.get("/said")["said"][-1] == ["/api/v1/models/unload", {"instance_id": "a"}]
    assert service.loaded() == set()


def test_progress_is_told_while_the_start_is_the_load(workplace, hand, serve):
    with_http(workplace, serve(ControlService, "--load-delay", "3")).start()
    hand.register()
    hand.load("a")
    eventually(lambda: 0 < int(hand.report().get("progress:a", 0)) < 100, what="progress in the report")
    hand.until("a", "ready")
