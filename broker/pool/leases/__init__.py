"""What happens to leases: asked for, handed out, renewed, taken up again by a client that comes back, ended.

Its face is ``acquire.acquire`` and the calls of ``lifecycle``; ``hope`` ends the waiting that can come to nothing.
"""
