"""What OpenClaw itself says of the plugin, whether its packed form installs, whether its types are the real ones."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from harness.openclaw.install import Installed, npm
from harness.openclaw.scene import PLUGIN


def package(where: Installed) -> str:
    """See above."""
    folder = Path(tempfile.mkdtemp(prefix="hotseat-openclaw-"))
    try:
        (folder / "openclaw.json").write_text('{"gateway": {"mode": "local"}}')
        verdict = _node(where, folder, where.openclaw, "plugins", "validate", "--root", PLUGIN).strip().splitlines()[-1]
        packed = npm(PLUGIN, "pack", "--silent", "--pack-destination", str(folder), path=where.path)
        archive = folder / packed.strip().splitlines()[-1]
        how = ("--force", "--accept-capabilities")
        _node(where, folder, where.openclaw, "plugins", "install", f"npm-pack:{archive}", *how)
        _compile(where)
        return f"{verdict} Installed from {archive.name} ({archive.stat().st_size / 1024:.0f} KiB); types agree"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile(where: Installed) -> None:
    folder = where.folder / "types"
    folder.mkdir(exist_ok=True)
    for source in (Path(__file__).with_name("api.ts"), PLUGIN / "src" / "openclaw-api.ts"):
        shutil.copy(source, folder)
    compiler = where.folder / "node_modules" / "typescript" / "bin" / "tsc"
    kind = ("--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2023")
    _node(where, folder, compiler, "--noEmit", "--strict", "--skipLibCheck", *kind, folder / "api.ts")


def _node(where: Installed, home: Path, *words: str | Path) -> str:
    argv = [str(where.node), *map(str, words)]
    done = subprocess.run(argv, env=where.environ(home), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
