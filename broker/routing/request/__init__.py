"""A request as the rules see it: its texts and pictures, what it demands, what it is for.

Its face is ``request.Request`` and ``contents``, which reads one from a body.
"""
