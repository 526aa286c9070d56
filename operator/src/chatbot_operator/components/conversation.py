"""History and knowledge, and the worker of its background jobs: one image, one configuration, two Deployments."""

from chatbot_resource.model import ChatbotDeployment

from chatbot_operator.components import autoscaling, network, postgres, services, weaviate
from chatbot_operator.components.configuration import Configs
from chatbot_operator.components.context import Context
from chatbot_operator.components.reads import Read, there, user_secret, user_text
from chatbot_operator.components.services import Program
from chatbot_operator.reasons import Reason
from chatbot_operator.world import Blocked, Manifest, Reference


def reads(bot: ChatbotDeployment) -> tuple[Read, ...]:
    return (
        services.private_key(bot.name, "conversation"),
        postgres.address(bot, "conversation"),
        *postgres.authority(bot, "conversation"),
        *weaviate.key(bot),
        *_embeddings_key(bot),
        *_faqs(bot),
    )


def _there(context: Context) -> tuple[Read, ...]:
    return there(reads(context.bot), context.observed)


def build(context: Context, configs: Configs) -> list[Manifest]:
    program = Program("conversation", "conversation", "serve", configs["conversation"], _there(context))
    running = services.deployment(context, program, "conversation", autoscaling.replicas(context, "conversation"))
    return [
        program.config,
        *network.build(context, "conversation", running),
        services.service_account(context, "conversation"),
        services.service(context, "conversation"),
        running,
        *autoscaling.build(context, "conversation"),
        *_worker(context, configs),
    ]


def _worker(context: Context, configs: Configs) -> list[Manifest]:
    program = Program("conversation-worker", "conversation", "worker", configs["conversation"], _there(context))
    running = services.deployment(context, program, "conversation-worker", autoscaling.worker_replicas(context))
    return [
        *network.build(context, "conversation-worker", running),
        services.service_account(context, "conversation-worker"),
        running,
        autoscaling.disruption_budget(context, "conversation", "conversation-worker"),
    ]


def _embeddings_key(bot: ChatbotDeployment) -> list[Read]:
    ref = bot.spec.embeddings.api_key_secret_ref
    return [user_secret(ref, "embeddings_key", "spec.embeddings.apiKeySecretRef")] if ref else []


def _faqs(bot: ChatbotDeployment) -> list[Read]:
    ref = bot.spec.knowledge.faq_ref
    return [user_text(ref, "faqs.yaml", "spec.knowledge.faqRef", "knowledge")] if ref else []


def faq_reference(bot: ChatbotDeployment) -> Reference | None:
    return next((read.reference for read in _faqs(bot)), None)


def bad_faqs(context: Context) -> Blocked | None:
    """Waited for by nothing: the worker is not ready, and all else goes on with the FAQs that were read before."""
    found = None if context.hibernated else faq_reference(context.bot)
    if found is None or not context.observed.bad_faqs:
        return None
    where = f"ConfigMap {found.name}, which spec.knowledge.faqRef names, key {found.key}"
    return Blocked(Reason.INVALID_FAQS, f"{where}, {context.observed.bad_faqs}.")
