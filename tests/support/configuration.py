"""Settings of any service as a real resource would make them."""

from typing import Any

from chatbot_resource.configuration import SERVICES, Endpoints, Listen, Resolved, Service, service_settings
from chatbot_resource.model import ChatbotDeployment

from tests.support.identity import BOT, Keys

MINIMAL: dict[str, Any] = {
    "apiVersion": "chatbot-operator.io/v1alpha1",
    "kind": "ChatbotDeployment",
    "metadata": {"name": BOT},
    "spec": {"profile": "Dev"},
}


def mapping(
    service: Service,
    keys: Keys,
    urls: dict[Service, str] | None = None,
    spec: dict[str, Any] | None = None,
    **resolved: Any,
) -> dict[str, Any]:
    """What `service` is told, without its secrets.

    Args:
        urls: where services are; the others point at a closed port.
        spec: spec of the resource; default `profile: Dev`.
        resolved: fields of `Resolved`, such as `faq_file`.
    """
    bot = ChatbotDeployment.model_validate(MINIMAL | ({"spec": spec} if spec is not None else {}))
    endpoints = Endpoints(
        listen={name: Listen("127.0.0.1", 1 + index, 101 + index) for index, name in enumerate(SERVICES)},
        urls=dict.fromkeys(SERVICES, "http://127.0.0.1:1") | (urls or {}),
    )
    return service_settings(
        bot, endpoints, Resolved(service_public_keys=keys.public, admin_email="admin@example.com", **resolved)
    )[service] | {"service_private_key": keys.services[service].private_text}
