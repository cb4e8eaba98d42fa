"""What a body holds: the five shapes, and whatever tries to hide in them."""

import asyncio
import base64
import bz2
import gzip
import hashlib
import json
import lzma
import re
import zlib
from pathlib import Path

import pytest

from broker.routing.request.contents import Demands, UnreadContent, content_of
from broker.routing.request.pictures import MOST_PARTS
from broker.routing.request.request import RequestKind

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
CAMERA = b"\xff\xd8\xff\xe1\x00\x20Exif\x00\x00MM" + bytes(3000)
PDF = b"%PDF-1.7\n" + bytes(range(256))
NEEDLE = "the needle 4711"


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def read(kind: RequestKind, **fields):
    return content_of(kind, json.dumps({"model": "m", **fields}).encode())


def chat(*parts, **fields):
    return read(RequestKind.CHAT, messages=[{"role": "user", "content": list(parts)}], **fields)


def text_of(content) -> str:
    return "\n".join(content.texts)


@pytest.mark.parametrize(
    "kind, fields",
    [
        (RequestKind.CHAT, {"messages": [{"role": "user", "content": NEEDLE}]}),
        (RequestKind.CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": NEEDLE}]}]}),
        (RequestKind.CHAT, {"messages": [{"role": "tool", "tool_call_id": "c", "content": NEEDLE}]}),
        (RequestKind.CHAT, {"messages": [{"role": "assistant", "content": None, "reasoning_content": NEEDLE}]}),
        (
            RequestKind.CHAT,
            {"messages": [{"role": "u", "content": ""}], "tools": [{"function": {"description": NEEDLE}}]},
        ),
        (RequestKind.CHAT, {"messages": [{"role": "u", "content": ""}], "a_new_field": {"deep": [NEEDLE]}}),
        (RequestKind.CHAT, {"messages": [{"role": "u", "content": ""}], "metadata": {NEEDLE: 1}}),
        (RequestKind.COMPLETION, {"prompt": NEEDLE}),
        (RequestKind.COMPLETION, {"prompt": ["a", NEEDLE]}),
        (RequestKind.COMPLETION, {"prompt": "a", "suffix": NEEDLE}),
        (RequestKind.RESPONSES, {"input": NEEDLE}),
        (RequestKind.RESPONSES, {"input": "a", "instructions": NEEDLE}),
        (RequestKind.RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_text", "text": NEEDLE}]}]}),
        (RequestKind.RESPONSES, {"input": [{"type": "function_call_output", "call_id": "c", "output": NEEDLE}]}),
        (
            RequestKind.RESPONSES,
            {"input": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": NEEDLE}]}]},
        ),
        (RequestKind.MESSAGES, {"messages": [{"role": "user", "content": NEEDLE}]}),
        (RequestKind.MESSAGES, {"messages": [], "system": [{"type": "text", "text": NEEDLE}]}),
        (
            RequestKind.MESSAGES,
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": NEEDLE}]}
                ]
            },
        ),
        (
            RequestKind.MESSAGES,
            {
                "messages": [
                    {
                        "role": "assistant",
                        "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"a": NEEDLE}}],
                    }
                ]
            },
        ),
        (
            RequestKind.MESSAGES,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "document",
                                "source": {"type": "base64", "media_type": "text/plain", "data": b64(NEEDLE)},
                            }
                        ],
                    }
                ]
            },
        ),
        (RequestKind.EMBEDDINGS, {"input": NEEDLE}),
        (RequestKind.EMBEDDINGS, {"input": ["a", NEEDLE]}),
    ],
)
def test_the_text_is_found_and_nothing_is_hidden(kind, fields):
    content = read(kind, **fields)
    assert (NEEDLE in text_of(content), content.hidden) == (True, "")


@pytest.mark.parametrize(
    "words",
    [
        b64(NEEDLE + " and more of it"),
        "see " + b64("long before " + NEEDLE) + " there",
        "data:text/plain;base64," + b64("x" * 40 + NEEDLE),
        "data:text/plain;charset=utf-8;base64," + b64("x" * 40 + NEEDLE),
        b64(b64("twice " + NEEDLE + " wrapped")),
        "\n".join(b64("a" * 100 + NEEDLE + "b" * 100)[at : at + 76] for at in range(0, 300, 76)),
        base64.urlsafe_b64encode(("??>>" * 9 + NEEDLE).encode()).decode().rstrip("="),
        b64((NEEDLE + " in two bytes").encode("utf-16")),
        b64((NEEDLE + " in two bytes").encode("utf-16-le")),
        json.dumps({"arguments": NEEDLE}).replace("needle", "\\u006eeedle"),
        ' {"a": ' + json.dumps(json.dumps({"b": NEEDLE.replace("n", "n")})) + "}",
    ],
)
def test_text_is_decoded(words):
    content = chat({"type": "text", "text": words})
    assert (NEEDLE in text_of(content), content.hidden) == (True, "")


@pytest.mark.parametrize(
    "kind, body, why",
    [
        (RequestKind.CHAT, b"not json", "unreadable"),
        (RequestKind.CHAT, b"\xff\xfe{}", "unreadable"),
        (RequestKind.CHAT, b"[]", "unreadable"),
        (RequestKind.CHAT, b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unreadable"),
        (RequestKind.CHAT, b'{"messages": ' + b'{"a":' * 600 + b"1" + b"}" * 600 + b"}", "unreadable"),
        (RequestKind.CHAT, b'{"messages": [], "messages": []}', "field_twice"),
        (RequestKind.CHAT, b'{"messages": [{"content": "a", "content": "b"}]}', "field_twice"),
        (RequestKind.CHAT, b'{"messages": [{"content": "{\\"a\\": 1, \\"a\\": 2}"}]}', "field_twice"),
        (RequestKind.CHAT, b'{"model": "m"}', "unknown_shape"),
        (RequestKind.CHAT, b'{"prompt": "a"}', "unknown_shape"),
        (RequestKind.OTHER, b'{"input": "a"}', "unknown_shape"),
        (RequestKind.COMPLETION, b'{"prompt": [1, 2, 3]}', "numbers"),
        (RequestKind.COMPLETION, b'{"prompt": [[1, 2], [3]]}', "numbers"),
        (RequestKind.EMBEDDINGS, b'{"input": [1, 2, 3]}', "numbers"),
        (RequestKind.RESPONSES, b'{"input": "a", "previous_response_id": "r"}', "kept_elsewhere"),
        (RequestKind.RESPONSES, b'{"input": [{"type": "item_reference", "id": "i"}]}', "file"),
        (RequestKind.RESPONSES, b'{"input": [{"content": [{"type": "input_file", "file_data": "x"}]}]}', "file"),
        (RequestKind.RESPONSES, b'{"input": [{"content": [{"type": "input_image", "file_id": "f"}]}]}', "file"),
        (RequestKind.CHAT, b'{"messages": [{"content": [{"type": "input_audio", "input_audio": {}}]}]}', "file"),
        (RequestKind.CHAT, b'{"messages": [{"content": [{"type": "hologram"}]}]}', "unknown_part"),
        (RequestKind.CHAT, b'{"messages": [{"content": [{"type": ["text"]}]}]}', "unknown_part"),
        (RequestKind.RESPONSES, b'{"input": [{"id": "i"}, {"role": "user", "content": "a"}]}', "file"),
        (RequestKind.RESPONSES, b'{"input": [{"id": "i", "type": null}]}', "file"),
        (RequestKind.CHAT, b'{"messages": [{"role": "assistant", "audio": {"id": "i"}}]}', "file"),
        (RequestKind.RESPONSES, b'{"input": "a", "prompt": {"id": "p"}}', "kept_elsewhere"),
        (RequestKind.RESPONSES, b'{"input": "a", "tools": [{"type": "mcp", "server_url": "u"}]}', "kept_elsewhere"),
        (RequestKind.RESPONSES, b'{"input": "a", "tools": [{"type": "file_search"}]}', "kept_elsewhere"),
        (RequestKind.RESPONSES, b'{"input": "a", "tools": [{"container": {"file_ids": ["f"]}}]}', "kept_elsewhere"),
        (
            RequestKind.MESSAGES,
            b'{"messages": [{"content": [{"type": "document", "source": {"type": "url"}}]}]}',
            "file",
        ),
        (
            RequestKind.MESSAGES,
            b'{"messages": [{"content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]}',
            "file",
        ),
    ],
)
def test_what_cannot_be_read_is_hidden(kind, body, why):
    assert content_of(kind, body).hidden == why


@pytest.mark.parametrize("data", [PDF, b"PK\x03\x04" + bytes(40), bytes(range(1, 256)) * 10])
def test_documents_that_are_no_text_are_hidden(data):
    source = {"type": "base64", "media_type": "application/pdf", "data": b64(data)}
    messages = [{"role": "user", "content": [{"type": "document", "source": source}]}]
    assert read(RequestKind.MESSAGES, messages=messages).hidden == "binary"


def test_what_two_parts_of_a_message_say_together_is_seen():
    halves = [{"type": "text", "text": text} for text in (NEEDLE[:3], NEEDLE[3:9], NEEDLE[9:] + " and more")]
    content = chat(*halves)
    assert NEEDLE in text_of(content)
    assert NEEDLE not in text_of(chat(halves[0], {"type": "image_url", "image_url": {"url": "https://x"}}, *halves[1:]))
    encoded = b64("far from here: " + NEEDLE)
    assert NEEDLE in text_of(chat(*({"type": "text", "text": text} for text in (encoded[:21], encoded[21:]))))


def test_escapes_of_json_inside_a_text_are_undone():
    assert "the needle/4711+" in text_of(chat({"type": "text", "text": r'log: {"x": "the \u006eeedle\/4711\u002B"}'}))


def test_plain_tools_and_references_in_their_schemas_hide_nothing():
    schema = {"type": "object", "properties": {"file_id": {"type": "string"}, "server_url": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}, {"type": "web_search"}, "odd"]
    assert chat({"type": "text", "text": "a"}, tools=tools).hidden == ""
    assert read(RequestKind.RESPONSES, input=[{"id": "m", "role": "assistant", "content": "a"}]).hidden == ""


def test_four_layers_of_base64_are_too_deep():
    text = NEEDLE + " far below the ground"
    for _ in range(4):
        text = b64(text)
    assert chat({"type": "text", "text": text}).hidden == "deep"


def test_hashes_and_signatures_are_no_hidden_data():
    integrity = "sha512-" + b64(bytes(range(128, 192)))
    assert chat({"type": "text", "text": integrity}).hidden == ""


def image(data: bytes, **more):
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(data)}", **more}}


@pytest.mark.parametrize(
    "part, marked",
    [
        (image(PNG), False),
        (image(CAMERA), True),
        (image(PNG, name="Screenshot 2026-11-21.png"), True),
        ({"type": "image_url", "image_url": {"url": "https://example.org/logo.png"}}, False),
        ({"type": "image_url", "image_url": {"url": "https://example.org/IMG_1234.jpg"}}, True),
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}, "source": "camera"}, True),
    ],
)
def test_pictures_and_their_marks(part, marked):
    content = chat({"type": "text", "text": "what is this?"}, part)
    assert [one.marked for one in content.images] == [marked]
    assert content.hidden == ""
    assert len(text_of(content)) < 1000, "a picture's letters are no text"


def test_a_picture_beside_the_word_screenshot_is_marked():
    content = chat({"type": "text", "text": "[media: screenshot.png]"}, image(PNG))
    assert content.images[0].marked


def test_a_picture_in_a_tool_result_is_marked():
    source = {"type": "base64", "media_type": "image/png", "data": b64(PNG)}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": source}]}
    messages = [{"role": "user", "content": [result]}]
    assert [one.marked for one in read(RequestKind.MESSAGES, messages=messages).images] == [True]


def test_a_short_word_that_begins_like_a_picture_is_looked_at_all_the_same():
    word = b64(b"BM" + bytes(20))
    assert word in text_of(chat({"type": "text", "text": word}))


def test_a_picture_inside_a_text_is_a_picture():
    content = chat({"type": "text", "text": f"![](data:image/png;base64,{b64(PNG)})"})
    assert len(content.images) == 1


def test_text_that_calls_itself_a_picture_is_text():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + b64(NEEDLE * 3)}}
    assert NEEDLE in text_of(chat(part))


@pytest.mark.parametrize(
    "fields, structured, reply_tokens, tools",
    [
        ({}, False, None, 0),
        ({"response_format": {"type": "json_schema"}}, True, None, 0),
        ({"response_format": {"type": "text"}}, False, None, 0),
        ({"response_format": None}, False, None, 0),
        ({"text": {"format": {"type": "json_schema"}}}, True, None, 0),
        ({"max_tokens": 10}, False, 10, 0),
        ({"max_tokens": 10, "max_completion_tokens": 30}, False, 30, 0),
        ({"max_tokens": 10, "n": 3}, False, 30, 0),
        ({"max_tokens": -1}, False, None, 0),
        ({"max_tokens": True}, False, None, 0),
        ({"max_tokens": "10"}, False, None, 0),
        ({"max_tokens": 10**30}, False, 10_000_000, 0),
        ({"tools": [{}, {}], "functions": [{}]}, False, None, 3),
    ],
)
def test_what_is_asked_of_the_model(fields, structured, reply_tokens, tools):
    content = chat({"type": "text", "text": "a"}, **fields)
    assert (content.structured, content.reply_tokens, content.tools) == (structured, reply_tokens, tools)


def test_numbers_are_looked_at_too():
    messages = [
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "n", "input": {"card": 4111111111111111}}],
        }
    ]
    assert "4111111111111111" in text_of(read(RequestKind.MESSAGES, messages=messages))


def test_a_body_is_read_once():
    source = UnreadContent(RequestKind.COMPLETION, b'{"prompt": "a"}')
    assert source.read() is source.read()


def der(length: int) -> bytes:
    """One sequence of so many bytes."""
    return b"\x30\x82" + length.to_bytes(2) + bytes(range(128, 256)) * 40


ZIPPED = zlib.compress(NEEDLE.encode() * 40)
CLOSED = {
    "PDF that begins with letters only": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" * 20,
    "PDF behind a line of mail": b"Content-Type: x\n\n%PDF-1.7\n" + b"text " * 50,
    "PostScript": b"%!PS-Adobe-3.0\n/Times-Roman findfont (secret) show\n" * 20,
    "RTF": b"{\\rtf1\\ansi pass{\\b word}}" * 20,
    "MP4": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(80),
    "QuickTime": b"\x00\x00\x00\x14ftypqt  \x00\x00\x02\x00qt  " + bytes(80),
    "M4A": b"\x00\x00\x00\x20ftypM4A \x00\x00\x00\x00" + bytes(80),
    "WAV": b"RIFF\x24\x08\x00\x00WAVEfmt " + bytes(range(128, 228)),
    "a bundle of keys, short": der(300)[:304],
    "a text, then a bundle of keys": b"Bag Attributes\n    friendlyName: anna\n" * 20 + der(900),
    "a text, then anything": b"a long and harmless text " * 20 + bytes(range(128, 256)) * 4,
    "gzip": gzip.compress(b"x y " * 30),
    "zlib, short": ZIPPED,
    "bzip2": bz2.compress(b"x y " * 30),
    "xz": lzma.compress(b"x y " * 30),
    "zip": b"PK\x03\x04\x14\x00" + bytes(60),
    "TIFF of a camera": b"II*\x00\x08\x00\x00\x00" + bytes(80),
    "tar": b"diary.txt" + bytes(91) + b"0000644\x00" + bytes(149) + b"ustar\x0000" + bytes(240),
    "a data base": b"SQLite format 3\x00" + bytes(100),
    "what is encrypted": b"-----BEGIN PGP MESSAGE-----\n\nhQEMA5y\n-----END PGP MESSAGE-----\n",
    "a picture with a file behind it": PNG + b"IEND\xaeB\x60\x82" + b"PK\x03\x04" + bytes(60),
}


@pytest.mark.parametrize("data", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("wrap", ["{}", "see {} there", "data:application/octet-stream;base64,{}"])
def test_what_cannot_be_read_whole_is_hidden_however_it_is_sent(data, wrap):
    assert chat({"type": "text", "text": wrap.format(b64(data))}).hidden == "binary"


@pytest.mark.parametrize("data", CLOSED.values(), ids=CLOSED)
@pytest.mark.parametrize("head", ["> ", "  12\t", ""], ids=["mail", "numbered", "plain"])
def test_what_cannot_be_read_whole_is_hidden_on_many_lines_too(data, head):
    letters = b64(data + bytes(range(128, 256)) * 12)
    lines = "\n".join(head + letters[at : at + 76] for at in range(0, len(letters), 76))
    assert chat({"type": "text", "text": "the file:\n" + lines + "\n"}).hidden == "binary"


@pytest.mark.parametrize(
    "url, hidden",
    [
        ("data:application/x-unknown;base64," + b64(bytes(range(130, 180))), "binary"),
        ("data:video/mp4;base64," + b64(bytes(range(130, 180))), "binary"),
        ("data:image/x-strange;base64," + b64(bytes(range(130, 180))), "binary"),
        ("data:application/octet-stream,%00%ff%fe%80%81%82%83%84%85%86%87%88%89%90", "binary"),
        ("DATA:;base64," + b64(bytes(range(130, 180))), "binary"),
        ("data:image/png;base64,iVBORw0KGgo...", ""),
        ("data:text/plain;base64," + b64(NEEDLE * 2), ""),
        ("data:text/plain;charset=utf-8," + NEEDLE.replace(" ", "%20") * 2, ""),
        ("data:image/svg+xml,%3Csvg%3E" + NEEDLE.replace(" ", "%20") + "%3C/svg%3E", ""),
    ],
)
@pytest.mark.parametrize("around", ["{}", "first " + b64(NEEDLE + " and more") + " ![]({}) and then"])
def test_an_unknown_data_url_is_hidden_and_a_known_one_is_read(url, hidden, around):
    content = chat({"type": "text", "text": around.format(url)})
    assert content.hidden == hidden
    assert hidden or "..." in url or NEEDLE in text_of(content)
    assert around == "{}" or NEEDLE in text_of(content)


def test_a_bundle_of_keys_written_as_pem_is_hidden():
    letters = b64(der(900)[:904])
    lines = "\n".join(letters[at : at + 64] for at in range(0, len(letters), 64))
    for name in ("CERTIFICATE", "PKCS12", "X"):
        pem = f"Bag Attributes\n    friendlyName: anna\n-----BEGIN {name}-----\n{lines}\n-----END {name}-----\n"
        assert chat({"type": "text", "text": pem}).hidden == "binary"


def test_a_text_that_begins_like_a_picture_is_a_text():
    for word in ("BMW and ", "GIF89a ", "II* "):
        assert NEEDLE in text_of(chat({"type": "text", "text": b64(word + NEEDLE)}))
        assert not chat({"type": "text", "text": b64(word + NEEDLE)}).images


@pytest.mark.parametrize("after", [1000, 60_000, 200_000])
def test_a_cameras_data_is_seen_wherever_it_stands_in_a_picture(after):
    webp = b"RIFF\x00\x00\x00\x00WEBPVP8X" + bytes(after) + b"EXIF\x00\x00\x00\x10" + bytes(after)
    assert [one.marked for one in chat(image(webp)).images] == [True]


def test_what_programs_write_into_a_picture_is_read():
    png = PNG + bytes(200_000) + b"tEXtComment\x00" + NEEDLE.encode() + bytes(100)
    assert NEEDLE in text_of(chat(image(png)))


@pytest.mark.parametrize(
    "words",
    [
        NEEDLE.encode().hex(),
        base64.b32encode(NEEDLE.encode() * 2).decode().rstrip("="),
        json.dumps(list(NEEDLE.encode())),
        "".join(f"%{byte:02x}" for byte in NEEDLE.encode()),
        "".join(f"\\x{byte:02x}" for byte in NEEDLE.encode()).replace("\\x20", " "),
        "".join(f"&#{byte};" for byte in NEEDLE.encode()),
        NEEDLE.replace("dle", "\x1b[1mdle\x1b[0m"),
        NEEDLE.replace("e", "e\be"),
        "\n".join(f"    {at}\t{b64('a' * 90 + NEEDLE + 'b' * 90)[at : at + 60]}" for at in range(0, 300, 60)),
    ],
    ids=["hex", "base32", "numbers", "percent", "escapes", "entities", "colours", "overstrikes", "numbered lines"],
)
def test_other_ways_to_write_a_text_are_undone(words):
    assert NEEDLE in text_of(chat({"type": "text", "text": words}))


def test_a_files_bytes_taken_for_letters_are_hidden():
    for text in ("%PDF-1.4\n%\ufffd\ufffd\n1 0 obj", "a\x00b", "PK\x03\x04 and so on", "\ufffd\ufffd\x01\x02" * 9):
        assert chat({"type": "text", "text": text}).hidden == "binary"
    for text in ("A PDF begins with %PDF-1.4", "\x1b[31mred\x1b[0m", "one odd sign \ufffd in it", "a\tb\r\n\f"):
        assert chat({"type": "text", "text": text}).hidden == ""


def test_names_of_code_and_lists_of_hashes_hide_nothing():
    code = "class AbstractSingletonProxyFactoryBeanImplementationHelper: some_long_snake_case_name_of_this_here = 1"
    hashes = "\n".join(hashlib.sha1(b"%d" % n).hexdigest() for n in range(400))
    names = " ".join(re.findall(r"\w{16,}", Path(asyncio.__file__).with_name("base_events.py").read_text()))
    for text in (code, hashes, names):
        assert chat({"type": "text", "text": text}).hidden == ""


def test_a_name_and_its_value_in_two_fields_are_read_together():
    assert "DB_PASSWORD: hunter22" in text_of(chat(env=[{"name": "DB_PASSWORD", "value": "hunter22"}]))


def test_whether_there_is_a_picture_is_not_looked_for_where_that_would_take_long():
    """It is looked for on the event loop, also where no content is judged; a hostile body must not hold it up."""
    picture = b'{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}'
    few, many = (b'{"messages": [{"role": "user", "content": [%s' + b",{}" * n + b"]}]}" for n in (10, MOST_PARTS))
    assert Demands(RequestKind.CHAT, few % picture).shows_picture()
    assert not Demands(RequestKind.CHAT, many % picture).shows_picture()
    assert Demands(RequestKind.CHAT, b'{"tools": [{}]}').read().tools == 1
    assert Demands(RequestKind.CHAT, b'{"tools": [{}' + b",{}" * MOST_PARTS + b"]}").read().tools == 0
