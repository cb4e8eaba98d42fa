"""Model servers that are somebody else's service, as processes of their own."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

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
