"""What a model server's error says is found in whatever form it says it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.answers.said import MOST, Said, said_by

LLAMA_CPP = {"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}}
VLLM = {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}
ANTHROPIC = {"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}, "request_id": "r"}
OPENAI = {"error": {"message": "too long", "type": "invalid_request_error", "param": "input", "code": "too_long"}}
FASTAPI = {"detail": [{"loc": ["body", "messages"], "msg": "field required", "type": "missing"}, {"msg": "odd"}]}
NGINX = b"""<html>
<head><title>502 Bad Gateway</title><style>body {color: red}</style></head>
<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx/1.25 &amp; co</center></body></html>"""
FORMS = [
    (LLAMA_CPP, Said(message="too long", kind="exceed_context_size_error", code=400)),
    (VLLM, Said(message="too long", kind="BadRequestError", code=400)),
    (ANTHROPIC, Said(message="too long", kind="invalid_request_error")),
    (OPENAI, Said(message="too long", kind="invalid_request_error", code="too_long", param="input")),
    ([OPENAI], Said(message="too long", kind="invalid_request_error", code="too_long", param="input")),
    ({"error": "model 'x' not found"}, Said(message="model 'x' not found")),
    ({"error": "bad", "error_type": "validation"}, Said(message="bad", kind="validation")),
    ({"error": {"detail": "bad"}}, Said(message="bad")),
    ({"error": {"error": {"message": "deep"}}}, Said(message="deep")),
    ({"detail": "Not Found"}, Said(message="Not Found")),
    (FASTAPI, Said(message="body.messages: field required; odd")),
    ({"detail": {"error": {"message": "wrapped"}}}, Said(message="wrapped")),
    ({"message": "no"}, Said(message="no")),
    ({"errors": [{"message": "first", "code": "E1"}, {"message": "second"}]}, Said(message="first", code="E1")),
    ({"title": "Teapot", "status": 418}, Said(message="Teapot", code=418)),
    ("plain", Said(message="plain")),
    ({}, Said(message="")),
    ([], Said(message="[]")),
    ({"error": None}, Said(message="")),
    ({"error": {"message": 7, "type": 8, "code": [], "param": {}}}, Said(message="")),
]


@pytest.mark.parametrize("document, said", FORMS)
def test_each_form_says_the_same(document, said):
    assert said_by(json.dumps(document).encode()) == said


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", ""),
        (b"upstream connect error\n\n or disconnect", "upstream connect error or disconnect"),
        (NGINX, "502 Bad Gateway nginx/1.25 & co"),
        (b"<title>Oops</title><p>Down</p>", "Oops: Down"),
        (b"<html><body><h1>Down</h1></body>", "Down"),
        (b"<!DOCTYPE html><title>Error</title>", "Error"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\x00b\x1b[31m", "a b [31m"),
        (b"x" * 100_000, "x" * MOST),
        (json.dumps({"error": {"message": "y" * 100_000}}).encode()[:-2], None),
    ],
)
def test_text_and_pages_say_what_a_person_would_see(body, message):
    said = said_by(body).message
    assert said == message if message is not None else len(said) == MOST


def test_a_status_in_the_code_is_told_from_a_word():
    assert [Said(message="", code=code).status for code in (400, "503", "too_long", 99, 600, None, "4x0")] == [
        400, 503, None, None, None, None, None,
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "loc", "msg", "code", "type"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_whatever_a_server_says_is_read(body):
    said = said_by(body)
    assert len(said.message) <= MOST
    assert not any(char < " " or char == "\x7f" for char in said.message)
