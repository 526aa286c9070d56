"""The commands of `chatbot`. Each only reads its options and calls one function; what that needs is imported then."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="chatbot",
    help="An AI chat platform from one file: on this machine in seconds, on a cluster with the same file.",
    epilog="Start here:  chatbot up -f k8s/samples/minimal.yaml",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str | None, typer.Option("--name", "-n", help="Which bot, when there are several on this machine.")]


@app.command(epilog="Example:  chatbot up -f k8s/samples/minimal.yaml --port 8090 --knowledge ./handbook")
def up(
    file: Annotated[Path, typer.Option("--file", "-f", help="ChatbotDeployment, with its ConfigMaps and Secrets.")],
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=1, max=65535, help="Public port.  [default: 8080]")
    ] = None,
    knowledge: Annotated[
        Path | None, typer.Option("--knowledge", "-k", help="Folder of Markdown to answer from; remembered.")
    ] = None,
    no_knowledge: Annotated[bool, typer.Option("--no-knowledge", help="Forget the folder of last time.")] = False,
    env_file: Annotated[
        Path | None, typer.Option("--env-file", "-e", help="NAME=value lines: keys the file refers to.")
    ] = None,
    discovery: Annotated[
        bool,
        typer.Option("--discovery/--no-discovery", help="Use a model key or Ollama found here."),
    ] = True,
) -> None:
    """Start a bot from its file, or bring it up to date. Running it again is safe."""
    from chatbot_cli import closing
    from chatbot_cli.up import up as run
    from chatbot_cli.wish import Options

    try:
        closing.show(run(Options(file, port, knowledge, no_knowledge, env_file, discovery)))
    except KeyboardInterrupt:
        closing.show_interrupted()
        raise typer.Exit(130) from None


@app.command(epilog="Example:  chatbot down --timeout 5")
def down(
    name: Name = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove conversations, accounts and keys.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before removing.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="Seconds for answers in flight to end.  [default: 35]"),
    ] = None,
) -> None:
    """Stop a bot. What was said is kept."""
    from chatbot_cli import bots
    from chatbot_cli.down import down as run
    from chatbot_cli.home import known
    from chatbot_cli.screen import out
    from chatbot_cli.services import STOP_SECONDS

    if name is None and not known():
        out.print("Nothing was started here; there is nothing to stop.")
        return
    home = bots.pick_to_purge(name) if purge else bots.pick(name)
    if purge and not yes:
        typer.confirm(f"Remove everything the bot {home.name} knows and was told, in {home.folder}?", abort=True)
    was_running = run(home, STOP_SECONDS if timeout is None else timeout, purge)
    if not was_running and not purge:
        out.print(f"{home.name} was not running.")


@app.command(epilog="Example:  chatbot status --json")
def status(
    name: Name = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each process: state, memory, uptime, port. Ends with 1 when something is down."""
    from chatbot_cli import bots
    from chatbot_cli.status import report
    from chatbot_cli.tables import show_status

    found = report(bots.pick(name))
    show_status(found, as_json=as_json)
    if not found.ok:
        raise typer.Exit(1)


@app.command(epilog="Example:  chatbot logs chat -f")
def logs(
    services: Annotated[
        list[str] | None,
        typer.Argument(help="gateway, auth, chat, conversation, worker, postgres, valkey; or all."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-l", min=0, help="How many past lines of each.")] = 40,
    raw: Annotated[bool, typer.Option("--json", help="The lines as they were written.")] = False,
    name: Name = None,
) -> None:
    """Show what the processes log."""
    from chatbot_cli import bots
    from chatbot_cli.logs import show

    try:
        show(bots.pick(name), services or [], count=lines, follow=follow, raw=raw)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command(epilog='Example:  chatbot chat "When are you open?"    git diff | chatbot chat "Review this"')
def chat(
    question: Annotated[str | None, typer.Argument(help="Ask this and leave; without it, a conversation.")] = None,
    name: Name = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Another model of the bot.")] = None,
    conversation: Annotated[
        str | None, typer.Option("--conversation", "-c", help="Go on with this one (its id).")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="A bot elsewhere; its access token is read from $CHATBOT_TOKEN.")
    ] = None,
) -> None:
    """Talk to a bot in the terminal; on this machine as its administrator, unless $CHATBOT_TOKEN holds a token."""
    from chatbot_cli.chat import Talk, question_from, read_piped
    from chatbot_cli.connect import connect

    client = connect(name, url, os.environ.get("CHATBOT_TOKEN"))
    piped = read_piped(wait=question is None)
    talk = Talk(client, conversation, model)
    try:
        if text := question_from(question, piped):
            raise typer.Exit(0 if talk.ask(text) else 1)
        if piped is None:
            talk.repl()
    finally:
        client.close()


@app.command(epilog="Example:  chatbot token --header | curl -H @- http://127.0.0.1:8080/api/v1/users/me")
def token(
    name: Name = None,
    header: Annotated[bool, typer.Option("--header", help="Print it as a header, for curl -H @-.")] = False,
) -> None:
    """Print an access token of the administrator, for curl and SDKs. It lives for 15 minutes."""
    from chatbot_cli.connect import administrator

    typer.echo(f"{'Authorization: Bearer ' if header else ''}{administrator(name)}")


@app.command(epilog="Example:  chatbot link")
def link(name: Name = None) -> None:
    """Print a new one-time link that signs its opener in as administrator."""
    from chatbot_cli.connect import sign_in_link

    typer.echo(sign_in_link(name))
