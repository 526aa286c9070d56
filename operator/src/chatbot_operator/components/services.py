"""What all services are made of: Deployment, Service, ServiceAccount. The service's own module says what it reads."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from chatbot_resource.configuration import Service
from chatbot_resource.fields import seconds
from chatbot_resource.profiles import resolve_resources

from chatbot_operator import names
from chatbot_operator.components import reads
from chatbot_operator.components.autoscaling import Replicas, component
from chatbot_operator.components.context import Context
from chatbot_operator.components.images import image
from chatbot_operator.components.metadata import manifest, selector
from chatbot_operator.components.pods import PRE_STOP_SECONDS, SPREAD, container, grace, pod, probes, spread, template
from chatbot_operator.components.reads import Read
from chatbot_operator.world import Manifest

HISTORY = 3


@dataclass(frozen=True)
class Program:
    """A service's program as one Deployment or Job runs it."""

    part: str
    """Component label of its pods; also its container's name."""
    service: Service
    command: Literal["serve", "worker", "migrate", "copy"]
    config: Manifest
    """The service's ConfigMap."""
    reads: tuple[Read, ...]


def private_key(bot: str, service: Service) -> Read:
    return reads.generated(names.service_key(bot, service), "private_key", "service_private_key")


def service_account(context: Context, part: names.Component) -> Manifest:
    body = {"automountServiceAccountToken": False}
    return manifest(context.bot, part, "ServiceAccount", names.child(context.bot.name, part), body)


def service(context: Context, part: names.Component) -> Manifest:
    port = {"name": "http", "port": names.SERVICE_PORT, "targetPort": "http", "appProtocol": "http"}
    body = {"spec": {"type": "ClusterIP", "selector": selector(context.bot, part), "ports": [port]}}
    return manifest(context.bot, part, "Service", names.child(context.bot.name, part), body)


def deployment(context: Context, program: Program, part: names.Component, replicas: Replicas) -> Manifest:
    bot = context.bot
    spec: Manifest = {
        "selector": {"matchLabels": selector(bot, part)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        # Paused by somebody, a rollout makes no progress, and nothing says so: `mode: Paused` is for that.
        "paused": False,
        "revisionHistoryLimit": HISTORY,
        "progressDeadlineSeconds": math.ceil(seconds(bot.spec.rollout.deadline)),
        "template": template(
            context, part, reads.content(program.reads, context.observed), _pod(context, program, part)
        ),
    }
    if replicas.count is not None:
        spec["replicas"] = replicas.count
    name = names.child(bot.name, part)
    return manifest(bot, part, "Deployment", name, {"spec": spec}, annotations=replicas.annotations)


def program_container(context: Context, program: Program, **more: Any) -> Manifest:
    """The container that runs a program."""
    return container(
        program.part,
        image(context, program.service),
        context.settings.image_pull_policy,
        resolve_resources(context.bot.spec, program.service),
        [{"name": "config", "mountPath": names.CONFIG_FOLDER, "readOnly": True}, *reads.mounts(program.reads)],
        command=["python", "-m", f"chatbot_{program.service}", program.command],
        env=[
            {"name": "CHATBOT_CONFIG", "value": names.CONFIG_FILE},
            {"name": "CHATBOT_SECRETS", "value": names.SECRETS_FOLDER},
            *_authority(program),
            *({"name": item.name, "value": item.value} for item in context.bot.spec.defaults.env),
        ],
        **more,
    )


def _authority(program: Program) -> list[Manifest]:
    """A connection string that a user brings names no file in our pods, so they are told of it besides."""
    file = names.EXTERNAL_AUTHORITY
    brought = any((read.folder, read.file) == ("authorities", file) for read in program.reads)
    return [{"name": "CHATBOT_DATABASE_AUTHORITY", "value": f"{names.AUTHORITIES_FOLDER}/{file}"}] if brought else []


def program_volumes(program: Program) -> list[Manifest]:
    config = {"name": "config", "configMap": {"name": program.config["metadata"]["name"]}}
    return [config, *reads.volumes(program.reads)]


def _pod(context: Context, program: Program, part: names.Component) -> Manifest:
    running = program_container(
        context,
        program,
        ports=_ports(program),
        lifecycle={"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
        **probes(),
    )
    return pod(
        [running],
        program_volumes(program),
        grace(component(context, program.service).drain_seconds),
        serviceAccountName=names.child(context.bot.name, part),
        topologySpreadConstraints=spread(SPREAD, selector(context.bot, part)),
    )


def _ports(program: Program) -> Iterable[Manifest]:
    private = {"name": "private", "containerPort": names.PRIVATE_PORT}
    public = {"name": "http", "containerPort": names.HTTP_PORT}
    return [public, private] if program.command == "serve" else [private]
