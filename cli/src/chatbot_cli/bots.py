"""Which of the bots on this machine a command is about."""

from chatbot_cli import state
from chatbot_cli.calling import call
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home, known


def running(home: Home) -> bool:
    """Whether any process of this bot is alive."""
    record = state.load(home)
    return any(record.alive(name) for name in record.processes)


def pick_to_purge(name: str | None) -> Home:
    """The named bot, else the only one that runs: what is removed is never guessed. Raises `CliError`."""
    if name is not None:
        return pick(name)
    candidates = [bot for bot in known() if running(bot)]
    if len(candidates) != 1:
        names = ", ".join(bot.name for bot in known())
        raise CliError(
            f"{'Several bots run' if candidates else 'No bot runs'}, so it is not clear which one to remove.",
            f"Say which one: {call('down --purge --name NAME')}  (there are: {names})",
        )
    return candidates[0]


def pick(name: str | None) -> Home:
    """The named bot, else the only one, else the only one that runs. Raises `CliError`."""
    bots = known()
    names = ", ".join(bot.name for bot in bots)
    if not bots:
        raise CliError("No bot was started here yet.", f"Start one with: {call('up -f FILE')}")
    if name is not None:
        found = next((bot for bot in bots if bot.name == name), None)
        if found is None:
            raise CliError(f"No bot named {name} was started here.", f"There are: {names}.")
        return found
    candidates = bots if len(bots) == 1 else [bot for bot in bots if running(bot)]
    if len(candidates) != 1:
        raise CliError(f"There are several bots here: {names}.", "Say which one: --name NAME")
    return candidates[0]
