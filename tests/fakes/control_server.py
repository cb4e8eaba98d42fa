"""Servers that load and unload models by URLs of their own; the OpenAI half is that of ``model_server.py``.

* ``lmstudio``: lmstudio.ai/docs/developer/rest, *List*, *Load*, *Unload*. A load of what is loaded makes a second
  instance, ``KEY:2``; an unload wants the instance's id; a load answers when it has loaded, and goes on when the caller
  hangs up.
* ``lemonade``: lemonade-server.ai, *Lemonade API*: ``/api/v1/load``, ``/unload``, ``/health``; an unload
  that names no model unloads all of them.
* ``llamaswap``: README of mostlygeek/llama-swap: ``/running``; ``/upstream/MODEL/…`` loads;
  ``/api/models/unload/MODEL``.
* ``script``: answers a load at once, tells its progress, and forgets a load when it is told to unload.
"""

import json
import threading
import time
from urllib.parse import unquote

import model_server

MIB = 1 << 20


class Control(model_server.Server):
    def __init__(self, flags):
        super().__init__(flags)
        self.known = set(flags.knows)
        self.loaded = []
        self.loading, self.leaving = {}, set()
        self.said = []

    def answer(self, connection, method, path, headers, body):
        asked = json.loads(body) if body else {}
        if method == "POST" and not path.startswith("/v1/"):
            self.said.append([path, asked])
        if self.flags.wants_key and self.is_control(path) and headers.get("authorization") != self.wanted:
            self.send(connection, 401, {"error": {"message": "Malformed LM Studio API token provided", "code": 401}})
        elif (told := getattr(self, self.flags.manner)(method, path, asked)) is not None:
            self.send(connection, *told)
        elif path == "/said":
            self.send(connection, 200, {"said": self.said, "loaded": self.loaded})
        elif path == "/v1/models":
            self.send(connection, 200, {"object": "list", "data": [{"id": name} for name in sorted(self.known)]})
        elif path.startswith("/v1/") and asked.get("model") not in {one.split("#")[0] for one in self.loaded}:
            self.send(connection, 404, model_server.problem("no such model is loaded", 404))
        else:
            super().answer(connection, method, path, headers, body)

    @property
    def wanted(self):
        return f"Bearer {self.flags.wants_key}"

    @staticmethod
    def is_control(path):
        return not path.startswith("/v1/") and path != "/said"

    def load(self, name):
        time.sleep(self.flags.load_delay)
        self.loaded.append(name)

    # ---------------------------------------------------------------------------------------------------- LM Studio
    def lmstudio(self, method, path, asked):
        if (method, path) == ("GET", "/api/v1/models"):
            return 200, {"models": [self.lmstudio_model(name) for name in sorted(self.known)]}
        if (method, path) == ("POST", "/api/v1/models/load"):
            name = asked["model"]
            if name not in self.known:
                return 404, {"error": {"type": "model_not_found", "message": f"Model {name} not found in downloads"}}
            number = sum(one.split("#")[0] == name for one in self.loaded) + 1
            self.load(f"{name}#{number}")
            told = {"type": "llm", "instance_id": instance(f"{name}#{number}"), "load_time_seconds": 0.1}
            return 200, told | {"status": "loaded"}
        if (method, path) == ("POST", "/api/v1/models/unload"):
            found = [one for one in self.loaded if instance(one) == asked.get("instance_id")]
            if not found:
                return 404, {"error": {"type": "model_not_found", "message": "No such instance"}}
            time.sleep(self.flags.unload_delay)
            self.loaded.remove(found[0])
            return 200, {"instance_id": asked["instance_id"]}
        return None

    def lmstudio_model(self, name):
        instances = [one for one in self.loaded if one.split("#")[0] == name]
        told = {"type": "llm", "publisher": "p", "key": name, "display_name": name, "size_bytes": 600 * MIB}
        return told | {
            "loaded_instances": [{"id": instance(one), "config": {"context_length": 1}} for one in instances]
        }

    # ----------------------------------------------------------------------------------------------------- Lemonade
    def lemonade(self, method, path, asked):
        if (method, path) == ("GET", "/api/v1/health"):
            loaded = [{"model_name": one, "type": "llm", "device": "gpu", "pinned": False} for one in self.loaded]
            return 200, {"status": "ok", "version": "9.3.3", "all_models_loaded": loaded}
        if (method, path) == ("POST", "/api/v1/load"):
            if asked["model_name"] not in self.known:
                return 404, {"status": "error", "message": f"Model not found: {asked['model_name']}"}
            self.load(asked["model_name"])
            return 200, {"status": "success", "message": f"Loaded model: {asked['model_name']}"}
        if (method, path) == ("POST", "/api/v1/unload"):
            name = asked.get("model_name")
            if name and name not in self.loaded:
                return 404, {"status": "error", "message": f"Model not found: {name}"}
            self.loaded = [one for one in self.loaded if name and one != name]
            return 200, {"status": "success", "message": "Model unloaded successfully"}
        return None

    # --------------------------------------------------------------------------------------------------- llama-swap
    def llamaswap(self, method, path, asked):
        if (method, path) == ("GET", "/running"):
            return 200, {"running": [{"model": one, "state": "ready", "ttl": 0} for one in self.loaded]}
        if path.startswith("/upstream/") and path.endswith("/health"):
            name = unquote(path.split("/")[2])
            if name not in self.known:
                return 404, {"error": "could not find real modelID for " + name}
            if name not in self.loaded:
                self.load(name)
            return 200, {"status": "ok"}
        if method == "POST" and path.startswith("/api/models/unload/"):
            name = unquote(path.removeprefix("/api/models/unload/"))
            self.loaded = [one for one in self.loaded if one != name]
            return 200, {}
        return None

    # ----------------------------------------------------------------------------------------------------- a script
    def script(self, method, path, asked):
        if (method, path) == ("GET", "/status"):
            models = [{"name": one, "state": "loaded", "percent": 100, "bytes": 700 * MIB} for one in self.loaded]
            for name, began_s in dict(self.loading).items():
                percent = round(100 * (time.monotonic() - began_s) / max(self.flags.load_delay, 0.01))
                models.append({"name": name, "state": "loading", "percent": min(99, percent), "bytes": 0})
            return 200, {"models": models}
        if (method, path) == ("POST", "/load"):
            name = asked["name"]
            if name not in self.known:
                return 422, {"detail": f"no file for {name}"}
            if name not in self.loaded and name not in self.loading:
                self.loading[name] = began_s = time.monotonic()
                threading.Thread(target=self.finish, args=(name, began_s), daemon=True).start()
            return 202, {"accepted": True}
        if (method, path) == ("POST", "/unload"):
            self.loading.pop(asked["name"], None)
            if asked["name"] in self.loaded and asked["name"] not in self.leaving:
                self.leaving.add(asked["name"])
                threading.Thread(target=self.forget, args=(asked["name"],), daemon=True).start()
            return 202, {"accepted": True}
        return None

    def finish(self, name, began_s):
        time.sleep(self.flags.load_delay)
        if self.loading.get(name) == began_s:
            self.loaded.append(name)
            self.loading.pop(name)

    def forget(self, name):
        time.sleep(self.flags.unload_delay)
        self.leaving.discard(name)
        self.loaded = [one for one in self.loaded if one != name]


def instance(one):
    name, _, number = one.partition("#")
    return name if number == "1" else f"{name}:{number}"


def main():
    cli = model_server.parser()
    cli.add_argument("--manner", choices=["lmstudio", "lemonade", "llamaswap", "script"], default="script")
    cli.add_argument("--knows", action="append", default=[], metavar="NAME")
    cli.add_argument("--unload-delay", type=float, default=0.0)
    cli.add_argument("--wants-key", metavar="KEY", help="for everything but answers")
    flags = cli.parse_args()
    delay_s, flags.load_delay = flags.load_delay, 0.0  # the server itself is ready at once
    flags.any_key = True
    server = Control(flags)
    flags.load_delay = delay_s
    Control.ready = True
    server.serve()


if __name__ == "__main__":
    main()
