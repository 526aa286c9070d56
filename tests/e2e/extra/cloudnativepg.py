"""A real CloudNativePG beside a bare API server, with its webhooks, and its Postgres as far as it asks for it.

There is no kubelet and no image of Postgres. So the manager's Jobs succeed, its pods run, and what the program in them
would answer, each at an address of loopback of its own, is said here: that it is the primary, and goes well.
"""

import contextlib
import itertools
import json
import shutil
import ssl
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import yaml

from tests.e2e.extra.programs import program, running
from tests.e2e.extra.webhooks import asked
from tests.support.apiserver import ApiServer, Object, again_and_again
from tests.support.doors import certified
from tests.support.optional_apis import CLOUD_NATIVE_PG_CONTROLLER, install, remove, source
from tests.support.serving import free_port

ARCHITECTURES = ("amd64", "arm64")
MONITORING = "cnpg-default-monitoring"
STATUS_PORT = 8000
"""Where it asks pods how they are; it cannot be told another."""

_addresses = itertools.count(2)


@contextlib.contextmanager
def running_cloud_native_pg(server: ApiServer, folder: Path) -> Iterator[None]:
    install(server, CLOUD_NATIVE_PG_CONTROLLER)
    configuration = source(CLOUD_NATIVE_PG_CONTROLLER) / "config"
    namespace, name = server.namespace(), "cnpg-manager"
    server.create(_queries(configuration), namespace)
    _itself(folder, program(name))
    certificates = folder / "certs"
    _, authority = certified(certificates)
    shutil.copy(authority, certificates / "apiserver.crt")
    shutil.copy(certificates / "tls.key", certificates / "apiserver.key")
    port = free_port()
    environment = {
        "OPERATOR_NAMESPACE": namespace,
        "WEBHOOK_CERT_DIR": str(certificates),
        "MONITORING_QUERIES_CONFIGMAP": MONITORING,
        "PLUGIN_SOCKET_DIR": str(folder / "plugins"),
    }
    arguments = ["controller", f"--webhook-port={port}", f"--metrics-bind-address=127.0.0.1:{free_port()}"]
    with (
        running(server, name, arguments, folder, f"https://127.0.0.1:{port}/readyz", environment),
        asked(server, configuration / "webhook" / "manifests.yaml", port, authority),
    ):
        yield
        remove(server, CLOUD_NATIVE_PG_CONTROLLER)


def _queries(configuration: Path) -> Object:
    """As it is installed: then its webhook names them in every Cluster."""
    text = (configuration / "manager" / "default-monitoring.yaml").read_text(encoding="utf-8")
    found: Object = next(item for item in yaml.safe_load_all(text) if item)
    return found | {"metadata": found["metadata"] | {"name": MONITORING}}


def _itself(folder: Path, manager: Path) -> None:
    """It says in each Cluster which programs it brings into pods: itself, as its image has it."""
    (folder / "operator").mkdir()
    for architecture in ARCHITECTURES:
        (folder / "operator" / f"manager_{architecture}").symlink_to(manager)


def is_instance(pod: Object) -> bool:
    return bool(pod["metadata"]["labels"].get("cnpg.io/podRole") == "instance")


@contextlib.contextmanager
def playing_instances(server: ApiServer, namespace: str, cluster: str, folder: Path) -> Iterator[None]:
    """Its pods run and answer, the first of them as the primary; and each Database is made."""
    with contextlib.ExitStack() as stack:
        instances = _Instances(server, namespace, cluster, folder, stack)

        def play() -> None:
            with contextlib.suppress(httpx2.HTTPStatusError):  # changed or gone meanwhile
                instances.play()

        with again_and_again(play):
            yield


class _Instances:
    def __init__(
        self, server: ApiServer, namespace: str, cluster: str, folder: Path, stack: contextlib.ExitStack
    ) -> None:
        self._server = server
        self._namespace = namespace
        self._cluster = cluster
        self._folder = folder
        self._stack = stack
        self._known: dict[str, str] = {}
        """Name of a pod → where it answers."""

    def play(self) -> None:
        cluster = self._server.get("Cluster", self._namespace, self._cluster)
        if cluster is None:
            return
        status = cluster.get("status") or {}
        for pod in filter(is_instance, self._server.list("Pod", self._namespace)):
            if pod["status"].get("phase") == "Pending":
                self._start(pod, status)
        if status.get("targetPrimary") in self._known and not status.get("currentPrimary"):
            self._tell("Cluster", self._cluster, {"currentPrimary": status["targetPrimary"]})
        for item in self._server.list("Database", self._namespace):
            applied = {"applied": True, "observedGeneration": item["metadata"]["generation"]}
            if item.get("status") != applied and status.get("readyInstances"):
                self._tell("Database", item["metadata"]["name"], applied)

    def _start(self, pod: Object, status: Object) -> None:
        name = pod["metadata"]["name"]
        if name not in self._known:
            self._known[name] = self._stack.enter_context(self._answering(name, status))
        address = self._known[name]
        ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
        at = {"podIP": address, "podIPs": [{"ip": address}]}
        self._tell("Pod", name, {"phase": "Running", "conditions": ready} | at)

    def _tell(self, kind: str, name: str, status: Object) -> None:
        self._server.patch_status(kind, self._namespace, name, status)

    @contextlib.contextmanager
    def _answering(self, pod: str, status: Object) -> Iterator[str]:
        """Its address, where it speaks TLS as the manager's own certificate for it has it."""
        address = f"127.77.0.{next(_addresses)}"
        says = json.dumps(
            _status(pod == status.get("targetPrimary"), status.get("cloudNativePGOperatorHash", ""))
        ).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/pg/status" else 404)
                self.end_headers()
                self.wfile.write(says)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer((address, STATUS_PORT), Handler) as server:
            server.socket = self._tls().wrap_socket(server.socket, server_side=True)
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
            thread.start()
            try:
                yield address
            finally:
                server.shutdown()
                thread.join()

    def _tls(self) -> ssl.SSLContext:
        made = self._server.get("Secret", self._namespace, f"{self._cluster}-server")
        assert made is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = self._folder / "tls.crt", self._folder / "tls.key"
        for file in (certificate, key):
            file.write_bytes(b64decode(made["data"][file.name]))
        context.load_cert_chain(certificate, key)
        return context


def _status(primary: bool, manager: str) -> Object:
    """What its instance manager says of a Postgres that is as it should be (pkg/postgres/status.go)."""
    return {
        "currentLsn": "0/3000060",
        "systemID": "7400000000000000001",
        "isPrimary": primary,
        "timeLineID": 1,
        "isArchivingWAL": True,
        "loadedConfigurationHash": "as it should be",
        "executableHash": manager,
        "instanceArch": "amd64",
        "instanceManagerVersion": "1.27.0",
    }
