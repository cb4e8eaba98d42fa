"""Clients of the broker's HTTP API, for commands, jobs and the demo's agents.

Its face is ``http_api.Client``; ``waiting`` asks for a lease and waits in line.
"""
