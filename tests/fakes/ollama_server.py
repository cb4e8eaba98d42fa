"""An Ollama as its documentation and its source have it; the OpenAI half is that of ``model_server.py``.

* API reference (github.com/ollama/ollama): *Load a model* and *Unload a model* of ``POST /api/generate``,
  ``POST /api/embed``, *List Local Models* (``GET /api/tags``), *List Running Models* (``GET /api/ps``), *Version*.
* server/routes.go: a name that is not pulled is a 404 ``{"error": "model 'NAME' not found"}``; an empty prompt with
  ``keep_alive`` 0 expires the runner before anything is loaded, whatever the model can do; ``/api/ps`` also lists what
  is still loading, with the size that it will have; one that is not for generating is refused with a 400.
* server/sched.go: a load whose request's context ends is given up; an expired runner goes when its requests are done;
  a request without ``keep_alive`` leaves what a runner was told before.
"""

import json
import socket
import threading
import time

import model_server

MIB = 1 << 20
FOR_EVER = "2318-09-09T04:24:40Z"


class Ollama(model_server.Server):
    def __init__(self, flags):
        super().__init__(flags)
        self.lock = threading.RLock()
        self.models = {whole(name) for name in flags.pulled}
        self.running = {}
        self.said = []

    def answer(self, connection, method, path, headers, body):
        asked = json.loads(body) if body else {}
        if self.flags.hang:
            time.sleep(3600)
        if self.flags.wants_key and headers.get("authorization") != f"Bearer {self.flags.wants_key}":
            self.send(connection, 401, {"error": "unauthorized"})
        elif path in {"/api/generate", "/api/embed"}:
            self.said.append({"path": path, **asked})
            self.work(connection, path, asked)
        elif path.startswith("/v1/") and path != "/v1/models":
            self.serve_openai(connection, method, path, headers, asked)
        elif (told := self.told(path)) is not None:
            self.send(connection, 200, told)
        else:
            self.send(connection, 404, {"error": "404 page not found"})

    def told(self, path):
        if path == "/forget":  # by hand: as if another client had unloaded everything
            self.running.clear()
        if path == "/pull":  # by hand: `ollama pull` of the first model of the tests
            self.models.add("a:latest")
        data = [{"id": name, "object": "model", "owned_by": "library"} for name in sorted(self.models)]
        return {
            "/": {},
            "/api/version": {"version": "0.12.6"},
            "/api/tags": {"models": [self.details(name) for name in sorted(self.models)]},
            "/api/ps": self.listed(),
            "/v1/models": {"object": "list", "data": data},
            "/said": {"said": self.said},
            "/forget": {},
            "/pull": {},
        }.get(path)

    def work(self, connection, path, asked):
        name = whole(asked.get("model", ""))
        if name not in self.models:
            self.send(connection, 404, {"error": f"model '{asked.get('model')}' not found"})
        elif path == "/api/generate" and not asked.get("prompt") and asked.get("keep_alive") == 0:
            self.expire(name)
            self.send(connection, 200, self.done(asked["model"], "unload"))
        elif path == "/api/generate" and name in {whole(one) for one in self.flags.only_embeds}:
            self.send(connection, 400, {"error": f'"{asked["model"]}" does not support generate'})
        elif self.flags.refuse_load:
            self.send(connection, 500, {"error": self.flags.refuse_load})
        elif self.load(connection, name, asked.get("keep_alive", "5m")):
            done = {"model": asked["model"], "embeddings": []}
            self.send(connection, 200, done if path == "/api/embed" else self.done(asked["model"], "load"))

    def serve_openai(self, connection, method, path, headers, asked):
        name = whole(asked.get("model", ""))
        if name not in self.models:
            error = {"message": f"model '{asked.get('model')}' not found", "type": "api_error"}
            self.send(connection, 404, {"error": error})
        elif self.load(connection, name, None):
            super().answer(connection, method, path, headers, json.dumps(asked).encode())

    def load(self, connection, name, keep_alive):
        """Whether it is loaded; not when the caller hung up meanwhile."""
        with self.lock:
            runner = self.running.get(name)
            first = runner is None
            if first:
                runner = self.running[name] = {"keep_alive": keep_alive or "5m"}
            if keep_alive is not None:
                runner["keep_alive"] = keep_alive
        deadline_s = time.monotonic() + (self.flags.load_delay if first else 0)
        while time.monotonic() < deadline_s:
            if has_hung_up(connection):
                with self.lock:
                    self.running.pop(name, None)
                return False
            time.sleep(0.005)
        return True

    def expire(self, name):
        runner = self.running.get(name)

        def go():
            time.sleep(self.flags.unload_delay)
            if self.running.get(name) is runner:
                self.running.pop(name, None)

        if self.flags.unload_delay:
            threading.Thread(target=go, daemon=True).start()
        else:
            self.running.pop(name, None)

    def listed(self):
        models = [
            self.details(name)
            | {"size_vram": self.flags.footprint * MIB, "context_length": 4096}
            | {"expires_at": FOR_EVER if runner["keep_alive"] == -1 else "2026-11-30T08:00:00Z"}
            for name, runner in sorted(dict(self.running).items())
        ]
        return {"models": models or None}  # Go's empty slice that was never made

    def details(self, name):
        known = {"name": name, "model": name, "size": self.flags.footprint * MIB, "digest": f"sha256:{hash(name):x}"}
        return known | {"details": {"format": "gguf", "family": "llama", "quantization_level": "Q4_0"}}

    @staticmethod
    def done(model, reason):
        told = {"model": model, "created_at": "2026-11-30T07:00:00Z", "response": "", "done": True}
        return told | {"done_reason": reason}


def whole(name):
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def has_hung_up(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def main():
    cli = model_server.parser()
    cli.add_argument("--pulled", action="append", default=[], metavar="NAME")
    cli.add_argument("--only-embeds", action="append", default=[], metavar="NAME")
    cli.add_argument("--unload-delay", type=float, default=0.0, help="seconds in which requests are still answered")
    cli.add_argument("--refuse-load", metavar="WORDS", help="500 to every load")
    cli.add_argument("--wants-key", metavar="KEY", help="as a proxy in front of it does")
    cli.add_argument("--hang", action="store_true", help="answer nothing")
    flags = cli.parse_args()
    flags.any_key = True
    Ollama(flags).serve()


if __name__ == "__main__":
    main()
