"""Turns another program's command line for a model server into ours, with places for what the worker fills in."""

from hotseat.migration.command_lines.command import About, Command
from hotseat.migration.command_lines.programs import CommandError, refuse_elsewhere
from hotseat.migration.command_lines.servers import command_in_words
from hotseat.migration.command_lines.shells import command_in_a_shell, plain_words, script_of


def command_of(words: list[str], about: About | None = None) -> Command:
    """Make a command ours.

    Args:
        words: With ``{port}`` where the rival fills in the port.
        about: What else the rival's configuration says.

    Raises:
        CommandError: It cannot be; what it starts would be none of the worker's, for one.
    """
    if "\x00" in "".join(words):
        raise CommandError("holds a NUL character")
    refuse_elsewhere(words)
    script = script_of(words)
    plain = None if script is None else plain_words(script)
    about = about or About()
    if script is not None and plain is None:
        found = command_in_a_shell(words, script, about)
    else:
        found = command_in_words(words if plain is None else plain, about)
    found.check()
    return found
