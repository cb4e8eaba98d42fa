"""What the chaos runs are set in: a slot that holds one of the models at a time, and a policy made quick."""

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.cluster.cluster import Model
from hotseat.demo.tiny_gguf import write_tiny_gguf
from hotseat.llama_server import llama_server_argv

FAKE_SERVER = Path(__file__).parents[1] / "fakes" / "model_server.py"
MEMORY_MIB = 600
BUDGET_MIB = 1000
LEASE_LIMIT = 2
SETTINGS = """\
anonymous = true
drain_s = 2
[limits]
ttl_default_s = 8
waiter_ttl_s = 20
repoll_s = 2
claim_ttl_s = 6
silence_s = 4
load_backoff_s = 1
max_fails = 100
[policy]
slice_min_s = 1.5
slice_load_factor = 1
slice_hold_factor = 1
exchange_min_run_s = 1
preempt_grace_s = 3
max_hold_s = 15
max_wait_s = { interactive = 15, normal = 15, background = 15, batch = 15 }
"""
"""Every wait of the policy in seconds instead of minutes. No quarantine: here it is we who kill the servers."""


def models_of(folder: Path, *, real_servers: bool) -> list[Model]:
    """Two fakes, one leaves a child behind, one has to be killed; ``real_servers``: two real llama.cpp servers more."""
    fakes = [
        fake("fake-a", load_s=1.2, extra=("--fork-child",)),
        fake("fake-b", load_s=0.6, extra=("--ignore-sigterm", "--fork-daemon")),
    ]
    return [*fakes, real(folder, "tiny-a", 1), real(folder, "tiny-b", 2)] if real_servers else fakes


def fake(name: str, *, load_s: float, extra: Sequence[str] = ()) -> Model:
    """A model served by the fake."""
    command = [
        sys.executable, "-I", "-S", str(FAKE_SERVER), "--host", "{host}", "--port", "{port}", "--alias",
        "{served_name}", "--api-key-file", "{api_key_file}", "--load-delay", str(load_s), "--token-delay", "0.02",
        *extra,
    ]  # fmt: skip
    return Model(name=name, memory_mib=MEMORY_MIB, lease_limit=LEASE_LIMIT, command=command)


def real(folder: Path, name: str, seed: int) -> Model:
    """A model of random weights in a real llama.cpp server."""
    path = write_tiny_gguf(folder / f"{name}.gguf", name=name, seed=seed)
    command = [
        *llama_server_argv(), "-m", "{model_path}", "--host", "{host}", "--port", "{port}", "--alias", "{served_name}",
        "--api-key-file", "{api_key_file}", "-c", "2048", "-np", str(LEASE_LIMIT), "-t", "1",
    ]  # fmt: skip
    return Model(name=name, memory_mib=MEMORY_MIB, lease_limit=LEASE_LIMIT, command=command, model_path=path)
