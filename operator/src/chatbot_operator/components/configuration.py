"""Each service's settings as an immutable ConfigMap named by its content: who changes what it says, changes its name.

Pods name the ConfigMap they were made for, so a change rolls exactly the pods that read it, and what is rolled back or
restarted finds what it knew.
"""

import json
from base64 import b64decode
from collections.abc import Iterable

from chatbot_resource.configuration import SERVICES, Endpoints, Listen, Resolved, Service, service_settings
from chatbot_resource.llm import Prompt
from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import weaviate
from chatbot_operator.components.context import Context
from chatbot_operator.components.metadata import digest, manifest
from chatbot_operator.components.reads import lost_secret, stored
from chatbot_operator.world import Blocked, Manifest, Observed

EVERYWHERE = "0.0.0.0"  # noqa: S104 - of its own pod
KEY = names.CONFIG_FILE.rpartition("/")[2]

Configs = dict[Service, Manifest]


def missing(context: Context, reader: str) -> Blocked | None:
    """Public keys and the administrator's address come from generated Secrets; without them nobody has settings."""
    bot = context.bot.name
    needed = [(names.service_key(bot, service), "public_key") for service in SERVICES]
    return next(
        (
            lost_secret(reader, name, key, context)
            for name, key in (*needed, (names.admin(bot), "email"))
            if stored(context.observed, name, key) is None
        ),
        None,
    )


def build(context: Context) -> Configs:
    """One ConfigMap per service; what `missing` asks for must be there."""
    bot = context.bot
    told = service_settings(bot, _endpoints(bot), _resolved(bot, context.observed))
    return {service: _config_map(bot, service, told[service]) for service in SERVICES}


def prompt_file(language: str, variant: str = "") -> str:
    """Path of a system prompt below its folder."""
    return f"{variant}/{language}.txt" if variant else f"{language}.txt"


def _config_map(bot: ChatbotDeployment, service: Service, told: Manifest) -> Manifest:
    text = json.dumps(told, indent=2, sort_keys=True) + "\n"
    name = names.config_map(bot.name, service, digest(text))
    return manifest(bot, service, "ConfigMap", name, {"immutable": True, "data": {KEY: text}})


def _endpoints(bot: ChatbotDeployment) -> Endpoints:
    return Endpoints(
        listen={service: Listen(EVERYWHERE, names.HTTP_PORT, names.PRIVATE_PORT) for service in SERVICES},
        urls={service: f"http://{names.child(bot.name, service)}" for service in SERVICES},
        weaviate=weaviate.url(bot),
        weaviate_grpc_port=weaviate.grpc_port(bot),
    )


def _resolved(bot: ChatbotDeployment, observed: Observed) -> Resolved:
    llm = bot.spec.llm
    return Resolved(
        service_public_keys={
            service: _text(observed, names.service_key(bot.name, service), "public_key") for service in SERVICES
        },
        admin_email=_text(observed, names.admin(bot.name), "email"),
        faq_file=names.FAQ_FILE if bot.spec.knowledge.faq_ref else None,
        prompt_files=_prompt_files(llm.prompts),
        variant_prompt_files={variant.name: _prompt_files(variant.prompts, variant.name) for variant in llm.variants},
        rules_file=names.RULES_FILE if bot.spec.moderation.rules_ref else None,
    )


def _prompt_files(prompts: Iterable[Prompt], variant: str = "") -> dict[str, str]:
    return {item.language: f"{names.PROMPTS_FOLDER}/{prompt_file(item.language, variant)}" for item in prompts}


def _text(observed: Observed, secret: str, key: str) -> str:
    return b64decode(stored(observed, secret, key) or "").decode()
