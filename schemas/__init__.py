"""What crosses a process boundary: messages, HTTP bodies, log lines, the configuration; it imports nothing of ours.

Its face is ``messages`` (through Redis), ``http`` (the API) and ``config`` (``hotseat.toml``).
"""
