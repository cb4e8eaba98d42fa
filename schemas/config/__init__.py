"""``hotseat.toml``: the sections that several parts share, where values come from, and what is wrong with them.

Its face is ``source.ConfigSource`` and ``file``.
"""
