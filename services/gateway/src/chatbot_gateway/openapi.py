"""One OpenAPI document out of four: every service describes itself, this joins what the public may call.

Pure functions; fetching is in `routes.py`.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from chatbot_gateway.service import ANONYMOUS

Document = dict[str, Any]

HIDDEN = ("/internal/", "/health", "/openapi.json")
REFERENCE = re.compile(r'"#/components/schemas/([^"]+)"')
METHODS = ("get", "put", "post", "delete", "patch")
NO_TOKEN_NEEDED = frozenset(ANONYMOUS) | {
    (method, path) for method in ("GET",) for path in ("/health", "/health/all", "/api/v1/health", "/api/v1/health/all")
}


def joined(title: str, own: Document, services: Mapping[str, Document], missing: list[str]) -> Document:
    """The document of the whole platform.

    Args:
        own: the gateway's own document; its paths stay as they are.
        services: service name → its document; internal paths and what only they use are left out.
        missing: services that did not answer; named in the description.
    """
    paths: Document = {path: _labelled("health", path, item) for path, item in own.get("paths", {}).items()}
    schemas: Document = dict(own.get("components", {}).get("schemas", {}))
    for name, document in services.items():
        public = {path: item for path, item in document.get("paths", {}).items() if not path.startswith(HIDDEN)}
        renamed, used = _schemas(name, public, document.get("components", {}).get("schemas", {}), schemas)
        schemas |= used
        paths |= {path: _labelled(name, path, item) for path, item in renamed.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1", "description": _description(missing)},
        "paths": {path: paths[path] for path in sorted(paths)},
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{"bearer": []}],
    }


def _description(missing: list[str]) -> str:
    text = "The native API is under `/api/v1`, the OpenAI-compatible one under `/v1`."
    if missing:
        text += f"\n\n**Not answering right now, so its routes are missing:** {', '.join(missing)}."
    return text


def _schemas(name: str, paths: Document, own: Document, taken: Document) -> tuple[Document, Document]:
    """Paths and schemas with names that clash with another service's prefixed; schemas no path uses are left out."""
    used = _reachable(paths, own)
    clashes = {key for key in used if key in taken and taken[key] != own[key]}

    def rename(key: str) -> str:
        return f"{name.capitalize()}{key}" if key in clashes else key

    def rewritten(value: Any) -> Any:
        text = REFERENCE.sub(lambda match: f'"#/components/schemas/{rename(match[1])}"', json.dumps(value))
        return json.loads(text)

    return rewritten(paths), {rename(key): rewritten(own[key]) for key in used}


def _reachable(paths: Document, schemas: Document) -> set[str]:
    found: set[str] = set()
    waiting = REFERENCE.findall(json.dumps(paths))
    while waiting:
        key = waiting.pop()
        if key not in found and key in schemas:
            found.add(key)
            waiting += REFERENCE.findall(json.dumps(schemas[key]))
    return found


def _labelled(name: str, path: str, item: Document) -> Document:
    """The path's operations, each with a tag to group by, and no token asked for where none is needed."""
    return {
        method: (
            {"tags": [name]} | operation | ({"security": []} if (method.upper(), path) in NO_TOKEN_NEEDED else {})
            if method in METHODS
            else operation
        )
        for method, operation in item.items()
    }
