"""Leases for callers: asked for over HTTP or the ingress stream, waited for on open connections.

Its face is ``service.Leasing`` and ``waiters.Waiters``; ``life`` says in the store that this broker is there.
"""
