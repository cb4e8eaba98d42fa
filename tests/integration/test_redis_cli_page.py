"""Every command of docs/redis-cli.md is typed into a real pool, and answers what the page shows."""

import asyncio
import re

import pytest

from tests.integration import redis_cli_page
from tests.integration.redis_cli_page import MISSING, PAGE, blocks, commands, has_redis_cli, rewrite, scene, type_in


def shape(output: str) -> str:
    """What stays the same from run to run: words, not numbers, names of grants or keys."""
    output = re.sub(r'("(?:nonce|op)"\n *\d+\) )"[^"]*"', r'\1"…"', output)
    output = re.sub(r"L[0-9a-f]{20}", "LEASE", output)
    output = re.sub(r"[0-9a-f]{12}-\d+|\b[0-9a-f]{40}\b", "INCARNATION", output)
    output = re.sub(r"gpuhost/[0-9a-f]{8}", "LIFE", output)
    return re.sub(r"\d+", "#", output)


@pytest.mark.redis
@pytest.mark.skipif(not has_redis_cli(), reason=MISSING)
async def test_a_person_can_read_and_drive_a_pool_with_redis_cli_alone():
    page = [pair for block in blocks(PAGE.read_text(encoding="utf-8")) for pair in commands(block)]
    async with scene() as socket:
        answers = await asyncio.to_thread(type_in, socket, [command for command, _ in page])
    for (command, shown), answer in zip(page, answers, strict=True):
        assert shape(answer) == shape(shown), f"{command}\nanswers\n{answer}"


async def test_without_redis_cli_the_page_is_left_as_it_is(monkeypatch, tmp_path):
    (tmp_path / "page.md").write_text(before := "```console\n$ r PING\nPONG\n```\n")
    monkeypatch.setattr(redis_cli_page, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(redis_cli_page, "PROGRAMS", str(tmp_path))
    with pytest.raises(SystemExit, match="no redis-cli"):
        await rewrite()
    assert (tmp_path / "page.md").read_text() == before
