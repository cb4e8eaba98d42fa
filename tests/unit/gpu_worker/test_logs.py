"""Log lines are one line each, whatever the fields contain."""

import json
import logging

from gpu_worker.logs import JsonFormatter, TextFormatter
from schemas.log_lines import tell


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


def test_a_line_that_is_told_is_the_line_that_would_be_logged(caplog):
    log = logging.getLogger("hotseat.test")
    fields = {"model": "a b", "status": 200, "answer": "", "took_s": 0.5}
    with caplog.at_level(logging.INFO, "hotseat.test"):
        log.info("request_closed", extra=fields)
        tell(log, "request_closed", fields)
    logged, told = caplog.records
    assert told.name == logged.name
    assert abs(told.created - logged.created) < 1
    for form in (TextFormatter(), JsonFormatter()):
        lines = [form.format(line) for line in (logged, told)]
        assert lines[0].partition("Z")[2] == lines[1].partition("Z")[2]


def test_a_line_below_the_level_is_not_told(caplog):
    log = logging.getLogger("hotseat.test")
    with caplog.at_level(logging.WARNING, "hotseat.test"):
        tell(log, "request_closed", {"model": "a"})
    assert caplog.records == []
