"""The world of one bot as the operator observes it, read with kubectl instead. It labels and changes nothing."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping

from chatbot_operator import names
from chatbot_operator.faqs import mistake_at_once
from chatbot_operator.kinds import CHILDREN, GROUPS, OPTIONAL, WRITTEN, group_and_version
from chatbot_operator.referenced import reference_digest
from chatbot_operator.world import Name, Observed, Reference
from chatbot_resource.documents import Documents

from chatbot_cli.cluster.kubectl import Kubectl, Object, resource
from chatbot_cli.cluster.refusals import Refused, Why

KINDS = (*CHILDREN, *OPTIONAL, "Pod")


def observe(
    kubectl: Kubectl, bot: str, uid: str, wanted: Iterable[Reference], faq: Reference | None, beside: Documents
) -> Observed:
    """
    Args:
        uid: of the resource.
        faq: the one of `wanted` that holds FAQs.
        wanted: what it refers to.
        beside: the file, whose ConfigMaps and Secrets would be applied with it.

    Raises:
        Refused: with Secrets among what one may not read there is no plan: settings hold public keys from them.
    """
    found, kinds = _parts(kubectl, bot)
    live = [item for item in found if item["kind"] != "Pod" and _is_observed(item)]
    pods = [item for item in found if item["kind"] == "Pod"]
    apis = (frozenset(OPTIONAL) & kinds) | {group for group in GROUPS if _is_served(kubectl, group)}
    references = list(wanted)
    referred = _referred(kubectl, references, beside)
    digests = {item: reference_digest(referred[item.kind, item.name], item.key, uid) for item in references}
    bad_faqs = mistake_at_once(referred.get((faq.kind, faq.name)), str(faq.key)) if faq else ""
    return Observed(tuple(live), tuple(pods), digests, apis, bad_faqs=bad_faqs)


def _parts(kubectl: Kubectl, bot: str) -> tuple[list[Object], frozenset[str]]:
    """Of every kind that this cluster knows, and those kinds: some are there only with what brings them.

    Of these one may also lack the right to see them: roles for people know nothing of them. They are left out then.
    """
    kinds = _of_served_groups(kubectl)
    while True:
        try:
            return kubectl.list(kinds, f"{names.BOT}={bot}"), frozenset(kinds)
        except Refused as refused:
            unseen = [kind for kind in kinds if _is_unseen(kind, refused)]
            if not unseen:
                raise
            kinds = [kind for kind in kinds if kind not in unseen]


def _of_served_groups(kubectl: Kubectl) -> list[str]:
    """Most kinds that are not there are known by it at once; each other costs a list of all that is refused."""
    groups = {"", *(item["name"] for item in json.loads(kubectl.run("get", "--raw", "/apis"))["groups"])}
    return [kind for kind in KINDS if group_and_version(kind)[0] in groups]


def _is_unseen(kind: str, refused: Refused) -> bool:
    name = resource(kind).partition(".")[0]
    if refused.why is Why.FORBIDDEN:
        return kind in OPTIONAL and any(line.startswith(f"{name}.") for line in refused.details)
    return refused.why is Why.UNKNOWN_KIND and name == refused.what.partition(".")[0]


def _is_served(kubectl: Kubectl, group: str) -> bool:
    """As the operator sees it: whatever speaks against it, it is not there."""
    try:
        return bool(kubectl.run("get", "--raw", f"/apis/{group}"))
    except Refused:
        return False


def _is_observed(item: Object) -> bool:
    """ReplicaSets are others' work; of the rest only what is labelled as the operator's."""
    labels = item["metadata"].get("labels") or {}
    return item["kind"] not in {*WRITTEN, *OPTIONAL} or labels.get(names.MANAGED_BY) == names.FIELD_MANAGER


def _referred(kubectl: Kubectl, wanted: Iterable[Reference], beside: Documents) -> dict[Name, Object | None]:
    objects = sorted({(item.kind, item.name) for item in wanted})
    return {(kind, name): _with_file(kind, name, kubectl.get(kind, name), beside) for kind, name in objects}


def _with_file(kind: str, name: str, live: Object | None, beside: Documents) -> Object | None:
    """As it will be when the file has been applied."""
    written = _in_file(kind, name, beside)
    if written is None:
        return live
    return {"data": ((live or {}).get("data") or {}) | dict(written), "binaryData": (live or {}).get("binaryData")}


def _in_file(kind: str, name: str, beside: Documents) -> Mapping[str, str] | None:
    if kind == "ConfigMap":
        return beside.config_maps.get(name)
    texts = beside.secrets.get(name)
    return None if texts is None else {key: b64encode(text.encode()).decode() for key, text in texts.items()}
