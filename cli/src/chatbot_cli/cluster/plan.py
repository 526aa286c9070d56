"""`kubectl chatbot plan`: reads the world, asks the API server what the edit makes of the resource, and previews."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from chatbot_operator import plan as operator
from chatbot_operator.components import conversation
from chatbot_operator.components.context import Context
from chatbot_operator.components.lost_status import whereabouts
from chatbot_resource.lines import Document
from chatbot_resource.mistakes import explain
from chatbot_resource.model import KIND, ChatbotDeployment
from pydantic import ValidationError

from chatbot_cli.cluster import files, operators
from chatbot_cli.cluster.kubectl import Kubectl, Object
from chatbot_cli.cluster.observing import observe
from chatbot_cli.cluster.planning import Preview, preview
from chatbot_cli.cluster.refusals import Refused, Why
from chatbot_cli.cluster.resources import Bot
from chatbot_cli.errors import CliError


@dataclass(frozen=True)
class Planned:
    """A preview and what one has to know to read it."""

    bot: ChatbotDeployment
    written: dict[str, Any]
    """The resource as the file has it."""
    live: Bot | None
    """None: the edit would make it."""
    preview: Preview
    command: str
    """What would apply the edit."""


def plan(kubectl: Kubectl, file: str, settings_file: Path | None) -> Planned:
    """Raises `CliError`; with code 2 when the file is wrong or the API server would refuse it."""
    documents, written = files.read(file)
    settings = operators.settings_of(kubectl, settings_file)
    name = documents.bot.name
    found = kubectl.get(KIND, name, (written.get("metadata") or {}).get("namespace"))
    edited = _edited(kubectl, written)
    bot = _understood(edited, file)
    kubectl = kubectl.within(bot.metadata.namespace)
    uid = str(edited["metadata"]["uid"])
    try:
        observed = observe(kubectl, name, uid, operator.references(bot), conversation.faq_reference(bot), documents)
    except Refused as refused:
        if refused.why is Why.FORBIDDEN:
            refused.hint = (
                "A plan needs the right to read what a bot consists of, Secrets too: settings hold public keys."
            )
        raise
    data = whereabouts(Context(bot, observed, settings), bot.status)
    made = preview(bot, uid, replace(observed, data=data), settings)
    return Planned(bot, written, Bot(found) if found else None, made, kubectl.here(f"apply -f {file}"))


def _edited(kubectl: Kubectl, written: dict[str, Any]) -> Object:
    """The resource as `kubectl apply` would leave it, judged by the API server's rules. Nothing is stored."""
    text = yaml.safe_dump(written)
    made: Object = yaml.safe_load(kubectl.run("apply", "--dry-run=server", "-o", "json", "-f", "-", stdin=text))
    return made


def _understood(edited: Object, file: str) -> ChatbotDeployment:
    """Raises `CliError` for what the cluster's definition knows and this command does not."""
    try:
        return ChatbotDeployment.model_validate(edited, by_alias=True, by_name=False)
    except ValidationError as error:
        mistakes = explain(error, Document(1, edited), ChatbotDeployment)
        hint = "The cluster's definition takes it, so it is newer or older than this command: use that of its version."
        raise CliError(f"{file}, as the API server completes it:", hint, [str(item) for item in mistakes]) from None
