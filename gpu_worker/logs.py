"""The worker's log: one event and its fields per line."""

from schemas.log_lines import JsonFormatter, TextFormatter, fields_of, set_up

__all__ = ["JsonFormatter", "TextFormatter", "fields_of", "set_up"]
