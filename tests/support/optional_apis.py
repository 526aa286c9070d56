"""Definitions of APIs that a cluster may have, from the projects' own Go modules; tests/e2e/extra runs controllers."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from chatbot_cli.errors import CliError
from localcluster.builds import find_go

from tests.support.apiserver import ApiServer, wait_for


@dataclass(frozen=True)
class Api:
    """A Go module, its checksum as in a go.sum, and the files in it."""

    module: str
    checksum: str
    files: tuple[str, ...]


MONITORING = Api(
    "github.com/prometheus-operator/prometheus-operator@v0.85.0",
    "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
    tuple(
        f"example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml"
        for plural in ("podmonitors", "prometheusrules")
    ),
)

GATEWAY = Api(
    "sigs.k8s.io/gateway-api@v1.4.0",
    "h1:ZwlNM6zOHq0h3WUX2gfByPs2yAEsy/EenYJB78jpQfQ=",
    ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
)

KEDA = Api(
    "github.com/kedacore/keda/v2@v2.18.0",
    "h1:ttR223fii/4QJ0YvtrhcWHaEoezByb/t5CeFopjl6EI=",
    ("config/crd/bases/keda.sh_scaledobjects.yaml",),
)

GATEWAY_CONTROLLER = Api(
    GATEWAY.module,
    GATEWAY.checksum,
    tuple(
        f"config/crd/standard/gateway.networking.k8s.io_{plural}.yaml"
        for plural in ("gatewayclasses", "gateways", "httproutes", "grpcroutes", "referencegrants")
    ),
)
"""All of it that a controller wants to see, see tests/e2e/extra."""


CLOUD_NATIVE_PG = Api(
    "github.com/cloudnative-pg/cloudnative-pg@v1.27.0",
    "h1:mp0zlYO4vKAJmQdArWORWKr1lmB4Hj8JeBQGX5RBnpg=",
    tuple(f"config/crd/bases/postgresql.cnpg.io_{plural}.yaml" for plural in ("clusters", "databases")),
)

KEDA_CONTROLLER = Api(
    KEDA.module,
    KEDA.checksum,
    (
        *(
            f"config/crd/bases/keda.sh_{plural}.yaml"
            for plural in ("scaledobjects", "scaledjobs", "triggerauthentications", "clustertriggerauthentications")
        ),
        *(
            f"config/crd/bases/eventing.keda.sh_{plural}.yaml"
            for plural in ("cloudeventsources", "clustercloudeventsources")
        ),
    ),
)

CLOUD_NATIVE_PG_CONTROLLER = Api(
    CLOUD_NATIVE_PG.module,
    CLOUD_NATIVE_PG.checksum,
    tuple(
        f"config/crd/bases/postgresql.cnpg.io_{plural}.yaml"
        for plural in (
            "backups",
            "clusterimagecatalogs",
            "clusters",
            "databases",
            "failoverquorums",
            "imagecatalogs",
            "poolers",
            "publications",
            "scheduledbackups",
            "subscriptions",
        )
    ),
)


def install(server: ApiServer, api: Api) -> None:
    """Apply the definitions and wait until they are served. Skips the test where the module cannot be had."""
    for file in _definitions(api):
        server.kubectl("apply", "--server-side", "-f", str(file))
        where = _served_at(file)
        wait_for(f"{where} to be served", lambda where=where: server.client.get(where).is_success)  # type: ignore[misc]


def remove(server: ApiServer, api: Api) -> None:
    """And everything that was made of them."""
    for file in _definitions(api):
        server.kubectl("delete", "-f", str(file))
        where = _served_at(file)
        wait_for(f"{where} to be gone", lambda where=where: server.client.get(where).status_code == 404)  # type: ignore[misc]


def _definitions(api: Api) -> list[Path]:
    folder = source(api)
    return [folder / name for name in api.files]


def _served_at(file: Path) -> str:
    spec = yaml.load(file.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]
    return f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"


def source(api: Api) -> Path:
    """The module's folder, from Go's cache; it is downloaded when it is not there."""
    try:
        found = _download(api.module)
    except CliError as error:
        reason = f"needs the Go module {api.module}: {error}"
        pytest.fail(reason) if os.environ.get("CHATBOT_REQUIRE_CLUSTER") else pytest.skip(reason)
    assert found["Sum"] == api.checksum
    return Path(found["Dir"])


def _download(module: str) -> dict[str, str]:
    command = [str(find_go()), "mod", "download", "-json", module]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)  # noqa: S603 - no shell
    found: dict[str, str] = json.loads(done.stdout or "{}")
    if "Dir" not in found:
        raise CliError(found.get("Error") or done.stderr)
    return found
