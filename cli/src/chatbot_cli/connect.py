"""Finding the running bot and getting in: as its administrator on this machine, with a token elsewhere."""

from chatbot_cli import bots, signin, state
from chatbot_cli.calling import call
from chatbot_cli.client import Client
from chatbot_cli.errors import CliError
from chatbot_cli.home import Home
from chatbot_cli.state import State


def connect(name: str | None, url: str | None, token: str | None) -> Client:
    """A client of the bot that was meant. Raises `CliError`."""
    if url:
        if not token:
            raise CliError("A bot elsewhere needs a token.", "Set CHATBOT_TOKEN to an access token.", code=2)
        return Client(url, lambda: token)
    home, record = _running(name)
    return Client(f"http://127.0.0.1:{record.port}", lambda: token or signin.access_token(home, record))


def administrator(name: str | None) -> str:
    """An access token of the bot's administrator. Raises `CliError`."""
    return signin.access_token(*_running(name))


def sign_in_link(name: str | None) -> str:
    """A one-time link that signs in the administrator. Raises `CliError`."""
    home, record = _running(name)
    return f"http://127.0.0.1:{record.port}/#/sign-in?token={signin.link_token(home, record)}"


def _running(name: str | None) -> tuple[Home, State]:
    home = bots.pick(name)
    record = state.load(home)
    if not record.alive("gateway"):
        again = call(f"up -f {record.file or 'FILE'}")
        raise CliError(f"{home.name} is not running.", f"Start it with: {again}")
    return home, record
