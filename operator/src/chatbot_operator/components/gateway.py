"""The only public door."""

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator.components import autoscaling, exposure, network, redis, services
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.reads import Read
from chatbot_operator.components.services import Program
from chatbot_operator.world import Manifest


def reads(bot: ChatbotDeployment) -> tuple[Read, ...]:
    return (services.private_key(bot.name, "gateway"), redis.address(bot))


def build(context: Context, configs: Configs) -> list[Manifest]:
    program = Program("gateway", "gateway", "serve", configs["gateway"], reads(context.bot))
    running = services.deployment(context, program, "gateway", autoscaling.replicas(context, "gateway"))
    return [
        program.config,
        *network.build(context, "gateway", running),
        services.service_account(context, "gateway"),
        services.service(context, "gateway"),
        running,
        *autoscaling.build(context, "gateway"),
        *exposure.build(context),
    ]
