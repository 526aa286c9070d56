"""The commands of `kubectl chatbot`. Each reads its options and calls one function; what it needs is imported then."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from chatbot_cli.cluster.kubectl import Kubectl

app = typer.Typer(
    name="kubectl chatbot",
    help="The chatbots of a cluster: how they are, what an edit would change, and what one does to them by hand.",
    epilog="Start here:  kubectl chatbot status",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CLUSTER = "Where"
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", help="Namespace; the context's if not given.", rich_help_panel=CLUSTER),
]
Context = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.", rich_help_panel=CLUSTER)]
Kubeconfig = Annotated[
    str | None, typer.Option("--kubeconfig", help="File with the way to the cluster.", rich_help_panel=CLUSTER)
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the ChatbotDeployment.", show_default=False)]


@app.callback()
def where(
    ctx: typer.Context, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """The flags may also stand before the command."""
    ctx.obj = (namespace, context, kubeconfig)


def _kubectl(ctx: typer.Context, *given: str | None) -> "Kubectl":
    from chatbot_cli.cluster.kubectl import Flags, Kubectl

    return Kubectl(Flags(*given).over(Flags(*ctx.obj)))


@app.command(
    epilog="Examples:\n\n kubectl chatbot explain harbour -n team\n\n kubectl chatbot explain harbour || alert"
)
def explain(
    ctx: typer.Context, name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Say in words how a bot is: what is wrong, since when, what to do. Ends with 0 when it is Ready, else with 1."""
    from chatbot_cli.cluster.explain import look
    from chatbot_cli.cluster.explain_view import show

    found = look(_kubectl(ctx, namespace, context, kubeconfig), name)
    show(found)
    if not found.ready:
        raise typer.Exit(1)


@app.command(
    epilog="Examples:\n\n kubectl chatbot plan -f harbour.yaml\n\n "
    "kubectl get cbd harbour -o yaml | sed s/Dev/Standard/ | kubectl chatbot plan -f -"
)
def plan(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Option("--file", "-f", help="The edited resource; - is standard input.", show_default=False)
    ],
    summary: Annotated[bool, typer.Option("--summary", help="Leave the diffs out.")] = False,
    operator_settings: Annotated[
        Path | None,
        typer.Option(help="The operator's settings.json, for who may not read its ConfigMap.", show_default=False),
    ] = None,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show what an edit would do to the bot's children and pods, without applying it. No Secret's value is shown."""
    from chatbot_cli.cluster.plan import plan as run
    from chatbot_cli.cluster.plan_view import show

    show(run(_kubectl(ctx, namespace, context, kubeconfig), file, operator_settings), diffs=not summary)


@app.command(epilog="Examples:\n\n kubectl chatbot status -A\n\n kubectl chatbot status harbour --watch")
def status(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="One bot and its parts; else a table of all.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")] = False,
    everywhere: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Bots of all namespaces.")] = False,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Show the bots of a namespace, or one bot's components, conditions, stores and migrations."""
    from chatbot_cli.cluster.status import show

    try:
        show(_kubectl(ctx, namespace, context, kubeconfig), name, everywhere=everywhere, watch=watch)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command(
    epilog="Examples:\n\n kubectl chatbot restart harbour chat\n\n "
    "kubectl chatbot restart harbour gateway chat --no-wait"
)
def restart(
    ctx: typer.Context,
    name: Name,
    components: Annotated[
        list[str],
        typer.Argument(
            metavar="COMPONENT",
            help="gateway, auth, chat, conversation, worker; or all.",
            show_default=False,
        ),
    ],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the new pods serve.")] = True,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for each component.")] = 600,
    namespace: Namespace = None,
    context: Context = None,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Replace a component's pods one by one, without an interruption, and wait until the new ones serve."""
    from chatbot_cli.cluster.restart import restart as run

    try:
        run(_kubectl(ctx, namespace, context, kubeconfig), name, components, wait=wait, timeout=timeout)
    except KeyboardInterrupt:
        typer.echo("The restart goes on by itself.", err=True)
        raise typer.Exit(130) from None


@app.command(epilog="Example:\n\n kubectl chatbot pause harbour -n team")
def pause(
    ctx: typer.Context, name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Let the operator change nothing of a bot, as for repairs by hand. What serves goes on serving."""
    from chatbot_cli.cluster.modes import pause as run

    run(_kubectl(ctx, namespace, context, kubeconfig), name)


@app.command(epilog="Example:\n\n kubectl chatbot resume harbour -n team")
def resume(
    ctx: typer.Context, name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Let the operator look after a bot again that was paused, or wake one that hibernates."""
    from chatbot_cli.cluster.modes import resume as run

    run(_kubectl(ctx, namespace, context, kubeconfig), name)


@app.command("rotate-keys", epilog="Example:\n\n kubectl chatbot rotate-keys harbour -n team")
def rotate_keys(
    ctx: typer.Context, name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Have a bot sign with new keys. The old ones stay valid for the overlap, so nobody is signed out."""
    from chatbot_cli.cluster.modes import rotate_keys as run

    run(_kubectl(ctx, namespace, context, kubeconfig), name)


@app.command(epilog="Example:\n\n kubectl chatbot retry harbour -n team")
def retry(
    ctx: typer.Context, name: Name, namespace: Namespace = None, context: Context = None, kubeconfig: Kubeconfig = None
) -> None:
    """Try once more what was given up (RolledBack), after what was wrong has been mended outside of the resource."""
    from chatbot_cli.cluster.modes import retry as run

    run(_kubectl(ctx, namespace, context, kubeconfig), name)
