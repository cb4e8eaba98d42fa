"""Requests with an ``Idempotency-Key``: one generation for all that bear the same key and body.

Its face is ``operations.Operations``.
"""
