"""The broker: leases over HTTP, a policy that decides, and a store that commits; one of several beside each other.

``cli`` starts it and ``app`` puts it together; docs/internals.md begins with the map of its rooms.
"""
