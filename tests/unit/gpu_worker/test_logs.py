"""Log lines are one line each, whatever the fields contain."""

import json
import logging

from gpu_worker.logs import JsonFormatter, TextFormatter


def record(**fields):
    made = logging.LogRecord("x", logging.INFO, "", 0, "model_ready", (), None)
    vars(made).update(fields)
    return made


def test_text_quotes_what_would_break_the_line():
    line = TextFormatter().format(record(model="a", error='two words\nand "quotes"', empty=""))
    assert line.endswith(r'info model_ready model=a error="two words\nand \"quotes\"" empty=""')
    assert "\n" not in line


def test_json_is_one_object():
    document = json.loads(JsonFormatter().format(record(model="a", generation=3)))
    assert (document["event"], document["model"], document["generation"]) == ("model_ready", "a", 3)
