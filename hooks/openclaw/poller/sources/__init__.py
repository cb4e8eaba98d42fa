"""Where OpenClaw's sessions are read: one small port, and three answers to it.

Its face is ``port.Source``.
"""
