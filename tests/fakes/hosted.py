"""Model servers that are somebody else's service, as processes of their own."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import ClassVar

FAKES = Path(__file__).parent


class Service:
    """One of them."""

    script: str

    def __init__(self, *flags):
        argv = [sys.executable, "-S", "-E", str(FAKES / self.script), "--tell-port", *flags]
        self.process = subprocess.Popen(
            [*argv, *(() if "--port" in flags else ("--port", "0"))], stdout=subprocess.PIPE
        )
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
            return json.load(answer)

    def loaded(self):
        """What it lists; nothing where it is dead."""
        try:
            return self.names()
        except OSError:
            return set()

    def kill(self):
        self.process.kill()
        self.process.wait(60)
        self.process.stdout.close()


class OllamaService(Service):
    script = "ollama_server.py"

    def __init__(self, *flags, pulled=("a:latest",)):
        super().__init__(*(word for name in pulled for word in ("--pulled", name)), "--footprint", "700", *flags)

    def names(self):
        return {one["name"] for one in self.get("/api/ps")["models"] or []}


class ControlService(Service):
    """One that is told by URLs of its own; ``table`` is what ``[model.http]`` says of it."""

    script = "control_server.py"
    MANNERS: ClassVar = {
        "lmstudio": {
            "load": {"url": "/api/v1/models/load", "body": {"model": "{model}"}, "expect": "/[status=loaded]"},
            "unload": {"url": "/api/v1/models/unload", "body": {"instance_id": "{picked}"}},
            "status": {"url": "/api/v1/models", "expect": "/models/*[key={model}]/loaded_instances/*/id"},
        },
        "lemonade": {
            "load": {"url": "/api/v1/load", "body": {"model_name": "{model}"}, "expect": "/[status=success]"},
            "unload": {"url": "/api/v1/unload", "body": {"model_name": "{model}"}},
            "status": {"url": "/api/v1/health", "expect": "/all_models_loaded/*[model_name={model}]"},
        },
        "llamaswap": {
            "load": {"method": "GET", "url": "/upstream/{model}/health"},
            "unload": {"url": "/api/models/unload/{model}"},
            "status": {
                "url": "/running",
                "expect": "/running/*[model={model}][state=ready]",
                "present": "/running/*[model={model}]",
            },
        },
        "script": {
            "load": {"url": "/load", "body": {"name": "{model}"}},
            "unload": {"url": "/unload", "body": {"name": "{model}"}},
            "status": {
                "url": "/status",
                "expect": "/models/*[name={model}][state=loaded]",
                "present": "/models/*[name={model}]",
                "memory_bytes": "/models/*[name={model}]/bytes",
                "progress_percent": "/models/*[name={model}]/percent",
            },
        },
    }

    def __init__(self, *flags, manner="script", knows=("a",)):
        self.manner = manner
        super().__init__("--manner", manner, *(word for name in knows for word in ("--knows", name)), *flags)

    def table(self):
        return {"url": self.url, **self.MANNERS[self.manner]}

    def names(self):
        return {one.split("#")[0] for one in self.get("/said")["loaded"]}
