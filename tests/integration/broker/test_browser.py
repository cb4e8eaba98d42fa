"""A real browser: a page of somebody else's can do nothing, one that is wanted streams."""

import pytest

from tests.fakes import browser
from tests.fakes.broker_scene import config_of
from tests.fakes.gateway_scene import gateway_scene
from tests.fakes.scripted_server import DONE, GOOD, stream, whole, word

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1", "localhost"])
async def test_a_page_of_somebody_elses_can_do_nothing(name):
    """Also one of another port of this machine, which browsers hold to be of the same site."""
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        before = await scene.store.last_event_id()
        async with browser.page_server("hostile", scene.url) as page:
            found = await browser.opened(page, name)
        assert len(found) > 20, found
        for way, result in found.items():
            assert result.get("error") or result["type"] == "opaque", f"{way} was answered: {result}"
        assert await scene.store.last_event_id() == before
        assert scene.models["a"].asked == []
        refused = scene.broker.services.metrics.render(None).decode()
        assert 'route="refused",status="403"' in refused, "they did arrive"


async def test_a_name_that_is_rebound_to_this_machine_shares_nothing_with_the_broker():
    async with gateway_scene({"a": [whole(GOOD)]}) as scene:
        before = await scene.store.last_event_id()
        async with browser.page_server("rebound", scene.url) as page:
            page.rebound_to = int(scene.url.rsplit(":", 1)[1])
            found = await browser.opened(page, "evil.example")
        for way, result in found.items():
            assert result["status"] == 421, f"{way}: {result}"
            assert "foreign_host" in result["text"]
        assert await scene.store.last_event_id() == before
        assert scene.models["a"].asked == []


async def test_a_page_that_is_wanted_streams_and_reads_what_it_needs():
    script = stream(word("one"), word("two"), DONE, pause_s=0.3)
    config = config_of(broker={"cors_origins": ("http://chat.example:*",)})
    async with gateway_scene({"a": [script]}, config) as scene:
        async with browser.page_server("wanted", scene.url) as page:
            found = await browser.opened(page, "chat.example")
        assert found["status"] == 200, found
        assert found["text"].encode() == word("one") + word("two") + DONE
        assert found["pieces"] >= 2, "they came one by one"
        assert found["id"].startswith("req_")
        assert found["lease"]
        assert found["models"]["status"] == 200
        assert found["lease_call"]["status"] == 201
        assert found["lease_call"]["id"]
        assert found["status_call"]["status"] == 200
        assert found["drain"]["status"] == 403
        assert found["unknown"]["status"] == 404
        assert "model_not_found" in found["unknown"]["text"]
