"""Structured output that is checked against the schema its request names.

Its face is ``check``.
"""
