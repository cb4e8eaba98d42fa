"""Leases for callers: asked for over HTTP or the ingress stream, waited for on open connections.

Its face is ``service.Leasing``, ``waiters.Waiters``, which an ``event_feed.EventFeed`` wakes, and ``held_lease.Holds``;
``life`` says in the store that this broker is there.
"""
