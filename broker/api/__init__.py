"""The HTTP API's routes: the lease calls and ``/v1`` as plain ASGI endpoints, the rest with FastAPI.

Its face is ``routes.install``, and ``services.Services``, which says what the routes work with.
"""
