"""The `hotseat` command: one entry for every part, and the launcher that starts them together."""

__version__ = "0.1.0"
