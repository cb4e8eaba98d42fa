"""Bodies of the HTTP API as Pydantic models; the hot paths have msgspec twins in ``broker.api.views``.

Its face is ``api``.
"""
