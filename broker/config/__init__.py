"""The broker's part of ``hotseat.toml``, turned into the plain values that everybody else is given.

Its face is ``broker_config.load_config``.
"""
