"""The worked example of ``docs/openclaw.md``: broker and worker take it, and both files mean one pool."""

import json
import re
from pathlib import Path

from broker.config.broker_config import load_config as load_broker
from gpu_worker.config import load_config as load_worker

PAGE = Path(__file__).parents[3] / "docs" / "openclaw.md"
EXAMPLE = PAGE.read_text().split("## Two agents on one card")[1].split("\n## ")[0]


def test_broker_and_worker_take_the_configuration_of_the_worked_example(tmp_path):
    path = tmp_path / "hotseat.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", EXAMPLE, re.DOTALL)[1])
    broker, worker = load_broker(path, {}), load_worker(path, {})
    assert [(model.name, model.default) for model in broker.models] == [("fast", True), ("deep", False)]
    (slot,) = worker.worker.slot
    for model in worker.models:
        assert model.memory_mib <= slot.budget_mib < sum(other.memory_mib for other in worker.models)
        words = dict(zip(model.command, model.command[1:], strict=False))
        assert model.context_tokens == int(words["--ctx-size"]) // int(words["--parallel"])
        assert model.lease_limit <= int(words["--parallel"])
    names = {model.name for model in broker.models}
    openclaw = json.loads(re.search(r"```json\n(.*?)```", EXAMPLE, re.DOTALL)[1])
    agents = openclaw["agents"]
    asked = [agents["defaults"]["model"]["primary"], agents["entries"]["work"]["model"]["primary"]]
    assert {f"hotseat/{name}" for name in names} == set(asked)
    settings = openclaw["plugins"]["entries"]["hotseat"]["config"]
    manifest = json.loads((PAGE.parents[1] / "hooks/openclaw/plugin/openclaw.plugin.json").read_text())
    assert settings.keys() <= manifest["configSchema"]["properties"].keys()
