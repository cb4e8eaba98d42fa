"""Where warm leases are published: the ingress stream, or the broker's HTTP API.

Its face is ``port``.
"""
