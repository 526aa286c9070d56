"""The CustomResourceDefinition, made from the models; `make generate` runs this and writes it."""

import sys
from pathlib import Path
from typing import Any

import yaml

from chatbot_resource.fields import NAME_LENGTH
from chatbot_resource.model import GROUP, KIND, VERSION, ChatbotDeployment, Spec
from chatbot_resource.reference import reference
from chatbot_resource.status import Status
from chatbot_resource.structural import NotStructural, Schema, structural

PLURAL = "chatbotdeployments"
FILE = f"{PLURAL}.{GROUP}.yaml"


def _column(name: str, path: str, kind: str = "string", **more: Any) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path} | more


def _condition(kind: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{field}'


COLUMNS = (
    _column("Available", _condition("Available", "status"), description="Answers now."),
    _column("Ready", _condition("Ready", "status"), description="Answers, and as this spec asks."),
    _column("Phase", ".status.phase"),
    _column("Version", ".status.version.current"),
    _column("Components", ".status.componentsReady", description="Ready of all."),
    _column("URL", ".status.url", description="Where the gateway answers."),
    _column("Reason", _condition("Ready", "reason"), priority=1, description="Why it is ready or not."),
    _column("Model", ".status.model", priority=1, description="The model that answers."),
    _column("Age", ".metadata.creationTimestamp", "date"),
)


def custom_resource_definition() -> Schema:
    """The whole object, ready to be applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["cbd"],
                "categories": ["all", "chatbot"],
            },
            "versions": [_version()],
        },
    }


def _version() -> Schema:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": list(COLUMNS),
        "schema": {"openAPIV3Schema": _root()},
    }


def _root() -> Schema:
    """Of the root only the rules are the model's: `apiVersion`, `kind` and `metadata` belong to Kubernetes."""
    status = structural(Status)
    # A status of an older operator must not keep a user from editing the spec.
    status.pop("required")
    return {
        "type": "object",
        "description": "One team's chatbot.",
        "x-kubernetes-validations": ChatbotDeployment.model_json_schema()["x-kubernetes-validations"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            # Always there, so that removing it whole does not pass by the rules on changes.
            "spec": structural(Spec) | {"default": {}},
            "status": status,
        },
    }


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Schema) -> str:
    written: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return written


def text() -> str:
    """The definition as YAML, with the reminder not to edit it."""
    head = "# Made from chatbot_resource by `make generate`. Do not edit.\n"
    return head + yaml.dump(
        custom_resource_definition(), Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True
    )


def chart_text() -> str:
    """The same as a template of the chart: Helm braces in it would be taken for code, so there must be none."""
    definition = custom_resource_definition()
    body = _yaml({"spec": definition["spec"]})
    if "{{" in body:
        raise NotStructural("a text with '{{' cannot be part of a chart's template")
    return _CHART_HEAD.format(name=definition["metadata"]["name"]) + body + "{{- end }}\n"


_CHART_HEAD = """\
{{{{- /* Made from chatbot_resource by `make generate`. Do not edit. */ -}}}}
{{{{- if .Values.crds.enabled }}}}
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {name}
  labels:
    {{{{- include "chatbot-operator.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
"""


def files(repository: Path) -> dict[Path, str]:
    """What `make generate` writes."""
    return {
        repository / "crds" / FILE: text(),
        repository / "charts" / "chatbot-operator" / "templates" / "crd.yaml": chart_text(),
        repository / "docs" / "reference" / "resource.md": reference(structural(Spec), structural(Status), NAME_LENGTH),
    }


def main() -> None:
    """Write the files below the folder given, default the current one."""
    for file, content in files(Path(sys.argv[1] if len(sys.argv) > 1 else ".")).items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        print(file)


if __name__ == "__main__":
    main()
