"""The data path: requests to ``/v1`` are read, planned for, given a lease, passed on and judged.

Its face is ``service.Gateway``; it knows streams of bytes, the sockets belong to ``http_server`` and ``http_client``.
"""
