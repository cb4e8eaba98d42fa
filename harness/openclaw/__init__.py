"""A real OpenClaw gateway of a pinned version with Hotseat behind it, on loopback.

``installed`` fetches it once into a cache, and ``openclaw_scene`` starts everything and hands out the ``Scene``.
"""
