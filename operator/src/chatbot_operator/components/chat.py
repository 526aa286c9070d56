"""Turns: prompt, providers, runs."""

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator import names
from chatbot_operator.components import autoscaling, network, redis, services
from chatbot_operator.components.configuration import Configs, prompt_file
from chatbot_operator.components.context import Context
from chatbot_operator.components.reads import Read, user_secret, user_text
from chatbot_operator.components.services import Program
from chatbot_operator.world import Manifest


def reads(bot: ChatbotDeployment) -> tuple[Read, ...]:
    own = (services.private_key(bot.name, "chat"), redis.address(bot))
    return (*own, *_provider_keys(bot), *_tokens(bot), *_prompts(bot), *_rules(bot))


def build(context: Context, configs: Configs) -> list[Manifest]:
    program = Program("chat", "chat", "serve", configs["chat"], reads(context.bot))
    running = services.deployment(context, program, "chat", autoscaling.replicas(context, "chat"))
    return [
        program.config,
        *network.build(context, "chat", running),
        services.service_account(context, "chat"),
        services.service(context, "chat"),
        running,
        *autoscaling.build(context, "chat"),
    ]


def _provider_keys(bot: ChatbotDeployment) -> list[Read]:
    return [
        user_secret(
            provider.api_key_secret_ref,
            f"provider_keys/{provider.name}",
            f"spec.llm.providers[{provider.name}].apiKeySecretRef",
        )
        for provider in bot.spec.llm.providers
        if provider.api_key_secret_ref is not None
    ]


def _tokens(bot: ChatbotDeployment) -> list[Read]:
    return [
        user_secret(server.secret_ref, f"mcp_tokens/{server.name}", f"spec.tools.mcpServers[{server.name}].secretRef")
        for server in bot.spec.tools.mcp_servers
        if server.secret_ref is not None
    ]


def _prompts(bot: ChatbotDeployment) -> list[Read]:
    llm = bot.spec.llm
    written = [("", "spec.llm", prompt) for prompt in llm.prompts]
    written += [
        (item.name, f"spec.llm.variants[{item.name}]", prompt) for item in llm.variants for prompt in item.prompts
    ]
    return [
        user_text(
            prompt.ref, prompt_file(prompt.language, variant), f"{place}.prompts[{prompt.language}].ref", "prompts"
        )
        for variant, place, prompt in written
    ]


def _rules(bot: ChatbotDeployment) -> list[Read]:
    ref = bot.spec.moderation.rules_ref
    file = names.RULES_FILE.rpartition("/")[2]
    return [user_text(ref, file, "spec.moderation.rulesRef", "moderation")] if ref else []
