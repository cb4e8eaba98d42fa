"""The model's name is all that is ever replaced of a body, in JSON and in forms with files."""

import pytest

from tests.fakes.cloud_scene import NEAR, alias, routed, routed_scene
from tests.fakes.gateway_scene import CHAT

LOCAL = alias("local", "a", "b")


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/images/edits"])
async def test_a_form_is_sent_with_the_models_own_name_and_else_byte_by_byte(path):
    model = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
    decoy = b'RIFF\x00\r\n--\xff\r\nContent-Disposition: form-data; name="model"\r\n\r\nlocal\r\n' + bytes(300_000)
    file = b'--B\r\nContent-Disposition: form-data; name="file"; filename="model"\r\n\r\n%s\r\n' % decoy
    rest = b'--B\r\ncontent-disposition: form-data; name="language"\r\n\r\nlocal\r\n--B--\r\nepilogue'
    headers = {"content-type": "multipart/form-data; boundary=B"}
    async with routed_scene({"a": [NEAR], "b": [NEAR]}, routed(aliases=(LOCAL,))) as scene:
        for parts in ((model, file), (file, model), (model, file, model)):
            sent = b"".join((*(part % b"local" if part is model else part for part in parts), rest))
            answer = await scene.client.post(path, content=sent, headers=headers)
            assert (answer.status_code, answer.headers["x-hotseat-model"]) == (200, "a")
            asked = scene.models["a"].asked[-1]
            assert asked.body == b"".join((*(part % b"a" if part is model else part for part in parts), rest))
            assert asked.header("content-type") == headers["content-type"]


async def test_a_model_that_is_asked_for_by_its_own_name_gets_the_very_same_bytes():
    raw = b'{ "model":"a",  "messages" : [{"role":"user","content":"hi"}], "odd": 1.0e1 }'
    async with routed_scene({"a": [NEAR]}, routed(aliases=(LOCAL,))) as scene:
        answer = await scene.client.post(CHAT, content=raw, headers={"content-type": "application/json"})
        assert answer.status_code == 200
        assert scene.models["a"].asked[0].body == raw
