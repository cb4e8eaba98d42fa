"""The configuration `hotseat up` writes for its parts: one file, the same form as in a real deployment."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotseat.demo.models import DemoModel

BUDGET_MIB = 1000
LEASE_LIMIT = 2
PARALLEL = LEASE_LIMIT + 1  # one place more than there are leases: the worker's probe never waits behind a holder
ADOPT_TIMEOUT_S = 20  # a pretended GPU is a busy CPU: proving itself takes a model server longer than on a real one
LEAST_CONTEXT, CONTEXT_TOKENS, MOST_CONTEXT = 256, 1024, 32_768  # of one request, tokens; more the demo's models cannot
COUNTED_CONTEXT = 1024  # the demo's declared footprints have this
MIB_PER_KILOTOKEN = 4  # of a longer context, for all places together: measured 170 MiB for 3 x 16,384
CHAT_TEMPLATE = Path(__file__).with_name("demo_chat.jinja")
STOPS = (
    "\nQuestion:",
    "\nAnswer:",
)  # the template's own: a model that goes on with a text asks itself the next question
MOST_TOKENS = 256  # of an answer whose request names no bound; without one a small model can go on for ever
FILE_MODE = 0o600

HEAD = """\
# Written by `hotseat up` at every start; changes here are lost. It is a complete example all the same.
[store]
url = {store_url}

[broker]
host = "127.0.0.1"
port = {port}
# Only this machine can connect, so callers need no API key.
anonymous = true

[worker]
name = "local"
state_dir = {state_dir}
adopt_timeout_s = {adopt_timeout_s}

# A pretended GPU: with this budget one of the two models is resident at a time.
[[worker.slot]]
id = "gpu0"
budget_mib = {budget_mib}
"""

MODEL = """
[[model]]
name = {name}
memory_mib = {memory_mib}
lease_limit = {lease_limit}
default = {default}
load_s_hint = {load_s}
model_path = {path}
command = [
  {server},
  "--model", "{{model_path}}", "--alias", "{{served_name}}",
  "--host", "{{host}}", "--port", "{{port}}", "--api-key-file", "{{api_key_file}}",
  "--ctx-size", "{context}", "--parallel", "{parallel}", "--threads", "{threads}",
  # The model goes on with a text: this makes it answer, and come to an end.
  "--jinja", "--chat-template-file", {template}, {stops}, "--predict", "{most_tokens}",
]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpConfig:
    """What differs between two runs.

    Attributes:
        server_argv: The command that starts a llama.cpp server.
        threads: Of a model server; more than there are cores only makes it slower.
        context_tokens: Of one request, prompt and reply.
    """

    store_url: str
    port: int
    worker_state_dir: Path
    models: Sequence[DemoModel]
    server_argv: Sequence[str]
    threads: int
    context_tokens: int = CONTEXT_TOKENS

    @property
    def budget_mib(self) -> int:
        """Room for one model at a time, the larger one included, MiB."""
        return max(BUDGET_MIB, *(self._memory_mib(model) for model in self.models))

    def text(self) -> str:
        """Return the file's contents."""
        head = HEAD.format(
            store_url=toml_string(self.store_url),
            port=self.port,
            state_dir=toml_string(str(self.worker_state_dir)),
            budget_mib=self.budget_mib,
            adopt_timeout_s=ADOPT_TIMEOUT_S,
        )
        return head + "".join(self._model(number, model) for number, model in enumerate(self.models))

    def _model(self, number: int, model: DemoModel) -> str:
        return MODEL.format(
            name=toml_string(model.name),
            memory_mib=self._memory_mib(model),
            default="true" if number == 0 else "false",
            load_s=model.load_s,
            path=toml_string(str(model.path)),
            server=", ".join(toml_string(word) for word in self.server_argv),
            context=self.context_tokens * PARALLEL,
            parallel=PARALLEL,
            lease_limit=LEASE_LIMIT,
            threads=self.threads,
            template=toml_string(str(CHAT_TEMPLATE)),
            stops=", ".join(f'"--reverse-prompt", {toml_string(stop)}' for stop in STOPS),
            most_tokens=MOST_TOKENS,
        )

    def _memory_mib(self, model: DemoModel) -> int:
        longer = max(0, self.context_tokens - COUNTED_CONTEXT) * PARALLEL
        return model.memory_mib + MIB_PER_KILOTOKEN * longer // 1000

    def write(self, path: Path) -> Path:
        """Write the file for this user only."""
        path.touch(mode=FILE_MODE)
        path.write_text(self.text(), encoding="utf-8")
        return path


def toml_string(text: str) -> str:
    """Return text as a TOML basic string; JSON's are the same but for DEL and escaped surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
