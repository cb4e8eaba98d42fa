"""What may never leave: secrets, the owner's indicators, paths of one's own machine, sessions that were private.

Its face is ``firewall``.
"""
