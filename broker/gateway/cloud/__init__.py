"""Models of other people's servers: which calls may go there, what they cost, and when they are given up.

Its face is ``attempt`` for one request and ``upstreams`` for what all requests share.
"""
