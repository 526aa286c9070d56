"""An API server that refuses some writes, as one does whose administrators guard something."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

from tests.support.apiserver import ApiServer, Object, wait_for

POLICIES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
BINDINGS = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings"


@contextmanager
def refusing(
    api: ApiServer, namespace: str, rule: Object, message: str, attempt: Callable[[], httpx2.Response]
) -> Iterator[None]:
    """
    Args:
        rule: a `resourceRule` of a ValidatingAdmissionPolicy.
        attempt: a request that it refuses, as a dry run: the policy counts once it does.
    """
    name = f"{namespace}-{rule['resources'][0]}"
    policy = {
        "matchConstraints": {
            "resourceRules": [rule],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        },
        "validations": [{"expression": "false", "message": message}],
    }
    api.request("POST", POLICIES, {"metadata": {"name": name}, "spec": policy})
    binding = {"policyName": name, "validationActions": ["Deny"]}
    api.request("POST", BINDINGS, {"metadata": {"name": name}, "spec": binding})
    wait_for("the policy to count", lambda: message in attempt().text)
    try:
        yield
    finally:
        api.request("DELETE", f"{BINDINGS}/{name}")
        wait_for("the policy to be gone", lambda: message not in attempt().text)
        api.request("DELETE", f"{POLICIES}/{name}")
