"""The way to the API server: kubectl itself, as a subprocess.

So every kind of credentials works that works for kubectl, and nothing else has to know them. What may be secret goes
through standard input, never through arguments that other users of the machine can read; a patch holds nothing secret.
"""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chatbot_operator.kinds import group_and_version, plural

from chatbot_cli.cluster.refusals import Refused, refusal
from chatbot_cli.errors import CliError

Object = dict[str, Any]
"""A Kubernetes object as the API gives it."""

REQUEST_SECONDS = 20
RUN_SECONDS = 120.0


@dataclass(frozen=True)
class Flags:
    """What kubectl is told about where to ask; None: its own default."""

    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None

    def over(self, others: "Flags") -> "Flags":
        """These, where they say something, else the others."""
        return Flags(
            self.namespace or others.namespace,
            self.context or others.context,
            self.kubeconfig or others.kubeconfig,
        )


class Kubectl:
    """One cluster and one namespace of it. Every method raises `Refused` with what to do next."""

    def __init__(self, flags: Flags) -> None:
        program = shutil.which("kubectl")
        if program is None:
            raise CliError(
                "There is no kubectl on the PATH.",
                "Install it: https://kubernetes.io/docs/tasks/tools/  (`kubectl version --client` shows that it works)",
            )
        self._program = program
        self._flags = flags

    @cached_property
    def namespace(self) -> str:
        """The one asked for, else the context's, else `default`."""
        if self._flags.namespace:
            return self._flags.namespace
        try:
            return self.run("config", "view", "--minify", "-o", "jsonpath={..namespace}").strip() or "default"
        except Refused:  # no context at all, as in a pod
            return "default"

    def within(self, namespace: str) -> "Kubectl":
        """The same in another namespace."""
        return Kubectl(Flags(namespace).over(self._flags))

    def here(self, arguments: str, *, everywhere: bool = False) -> str:
        """A command to show to the user, with the flags that were given."""
        flags = self._flags
        given = [("-n", None if everywhere else flags.namespace), ("--context", flags.context)]
        given.append(("--kubeconfig", flags.kubeconfig))
        return " ".join(["kubectl", arguments, *(f"{flag} {value}" for flag, value in given if value)])

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object; None when it is not there."""
        found = self.run("get", resource(kind), name, "-o", "json", "--ignore-not-found", namespace=namespace)
        return json.loads(found) if found.strip() else None

    def list(
        self, kinds: Sequence[str], selector: str = "", fields: str = "", *, everywhere: bool = False
    ) -> list[Object]:
        """Objects of all these kinds, in one call.

        Args:
            selector: of labels.
            fields: a field selector.
            everywhere: in all namespaces.
        """
        narrowed = ["-l", selector] if selector else []
        narrowed += [f"--field-selector={fields}"] if fields else []
        narrowed += ["--all-namespaces"] if everywhere else []
        names = ",".join(resource(kind) for kind in kinds)
        found: list[Object] = json.loads(self.run("get", names, *narrowed, "--show-managed-fields", "-o", "json"))[
            "items"
        ]
        return found

    def patch(self, kind: str, name: str, body: Object) -> Object:
        """By JSON merge; nothing secret. The object afterwards."""
        changed: Object = json.loads(
            self.run("patch", resource(kind), name, "--type=merge", "-p", json.dumps(body), "-o", "json")
        )
        return changed

    def run(self, *arguments: str, stdin: str | None = None, namespace: str | None = None) -> str:
        """What kubectl prints. Raises `Refused` when it fails."""
        command = [self._program, *self._options(namespace), f"--request-timeout={REQUEST_SECONDS}s", *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - kubectl, found on the PATH
                command,
                input=stdin or "",
                capture_output=True,
                text=True,
                errors="replace",
                timeout=RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise refusal("context deadline exceeded", self.here) from None
        if done.returncode:
            raise refusal(done.stderr, self.here)
        return done.stdout

    def _options(self, namespace: str | None) -> Sequence[str]:
        given = [("--namespace", namespace or self._flags.namespace), ("--context", self._flags.context)]
        given.append(("--kubeconfig", self._flags.kubeconfig))
        return [f"{flag}={value}" for flag, value in given if value]


def resource(kind: str) -> str:
    """A kind as kubectl finds it without mistaking it for another group's, such as `deployments.apps`."""
    group, _ = group_and_version(kind)
    return f"{plural(kind)}.{group}" if group else plural(kind)
