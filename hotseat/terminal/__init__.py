"""What all commands have in common: arguments, output, progress, signals, and how a command ends.

Its face is ``arguments``, ``output`` and ``inbox.Inbox``.
"""
