"""What happens to leases: asked for, handed out, renewed, taken up again by a client that comes back, ended.

Its face is ``acquire.acquire`` and the calls of ``lifecycle``; ``availability`` ends waiting for what cannot be had.
"""
