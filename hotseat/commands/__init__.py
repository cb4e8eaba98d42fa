"""Subcommands that talk to a broker: one file each, named after the command, called from the table in ``cli``.

Their words on the command line come from ``hotseat.terminal``, their calls from ``hotseat.clients``.
"""
