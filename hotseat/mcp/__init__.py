"""The GPU for any MCP client: tools that say in words what to do next.

Its face is ``server.main``; ``tools`` knows HTTP and nothing of MCP itself.
"""
