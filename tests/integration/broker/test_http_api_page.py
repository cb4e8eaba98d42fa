"""``docs/http-api.md`` is true: its exchanges are carried out in order."""

import json
import re
from pathlib import Path

from tests.fakes.broker_scene import memory_scene

PAGE = Path(__file__).parents[3] / "docs" / "http-api.md"
EXCHANGE = re.compile(r"```http\n(\S+) (\S+)\n(.*?)```\n```answer\n(\d+)\n(.*?)```", re.DOTALL)


def like(shown: object, real: object) -> bool:
    """Is the answer what the page shows?"""
    if shown == "…":
        return real is not None
    if isinstance(shown, dict):
        return isinstance(real, dict) and shown.keys() == real.keys() and all(like(shown[k], real[k]) for k in shown)
    return shown == real


async def test_the_page_is_true():
    exchanges = EXCHANGE.findall(PAGE.read_text())
    assert len(exchanges) == PAGE.read_text().count("```http")
    known: dict[str, str] = {}
    async with memory_scene(load_s=0.2) as scene:
        for method, path, body, status, shown in exchanges:
            for name, value in known.items():
                path, body = path.replace(f"${name}", value), body.replace(f"${name}", value)  # noqa: PLW2901
            content = {"content": body, "headers": {"Content-Type": "application/json"}} if body.strip() else {}
            answer = await scene.client.request(method, path, **content)
            assert answer.status_code == int(status), answer.text
            if not shown.strip():
                assert answer.content == b""
                continue
            real = answer.json()
            optional = {"waitReason", "etaSeconds", "etaLowSeconds", "etaHighSeconds"}
            assert like(json.loads(shown), {k: v for k, v in real.items() if k not in optional}), real
            known |= {name: real[name] for name in ("leaseId", "nonce") if name in real}
