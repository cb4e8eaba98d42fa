"""The door: a process in front of one model server that knows no keys; whoever bears the load's generation key passes.

``head`` reads a request's head and ``body`` finds its end, ``connection`` is one client's, ``main`` the process.
"""
