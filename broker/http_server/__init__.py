"""HTTP below the routes: sockets, whole requests or nothing, one request at a time, bounds in bytes and seconds.

Its face is ``connections.Connection``, uvicorn's protocol class, and ``listening``.
"""
