"""Accounts, sessions and signing keys."""

from dataclasses import replace

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import autoscaling, network, postgres, services
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.reads import Read, generated, there
from chatbot_operator.components.services import Program
from chatbot_operator.world import Manifest


def reads(bot: ChatbotDeployment) -> tuple[Read, ...]:
    return (
        services.private_key(bot.name, "auth"),
        postgres.address(bot, "auth"),
        *postgres.authority(bot, "auth"),
        generated(names.signing_keys(bot.name), "signing_keys", "signing_keys"),
        # The account has it from when it was made on, and a password that is changed there wins.
        replace(generated(names.admin(bot.name), "password", "admin_password"), once=True),
    )


def build(context: Context, configs: Configs) -> list[Manifest]:
    program = Program("auth", "auth", "serve", configs["auth"], there(reads(context.bot), context.observed))
    running = services.deployment(context, program, "auth", autoscaling.replicas(context, "auth"))
    return [
        program.config,
        *network.build(context, "auth", running),
        services.service_account(context, "auth"),
        services.service(context, "auth"),
        running,
        *autoscaling.build(context, "auth"),
    ]
