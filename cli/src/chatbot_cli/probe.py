"""One question to a model server that was found, so that nobody is told it answers when it refuses or is not there."""

import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import IO, Any

from chatbot_resource.configuration import provider_url
from chatbot_resource.llm import Provider

PROBE_SECONDS = 3.0
INSTEAD = "until that is mended, answers quote the knowledge (--no-discovery leaves the model out)"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another server."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


def trouble(provider: Provider, key: str | None, seconds: float = PROBE_SECONDS) -> str | None:
    """Why the provider will not answer, in words without the key; None when nothing speaks against it."""
    url = f"{provider_url(provider)}/models"
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if provider.type == "Ollama":
        handlers.append(urllib.request.ProxyHandler({}))
    host = url.split("/")[2].rpartition("@")[2]
    try:
        request = urllib.request.Request(url, headers=_headers(provider, key))  # noqa: S310 - the model checked http(s)
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds):
            return None
    except urllib.error.HTTPError as error:
        error.close()
        refused = error.code in (401, 403)
        # Not every server lists its models; only a refusal is certain.
        return f"{host} refuses the key ({error.code}); {INSTEAD}" if refused else None
    except (OSError, HTTPException):
        return f"{host} cannot be reached; {INSTEAD}"
    except ValueError:
        return f"the key cannot be sent to {host} as it is written; {INSTEAD}"


def _headers(provider: Provider, key: str | None) -> Mapping[str, str]:
    if not key:
        return {}
    bearer = {"Authorization": f"Bearer {key}"}
    if provider.type != "Anthropic":
        return bearer
    # Anthropic itself takes a bearer for another kind of key; servers in its place may know nothing else.
    return {"x-api-key": key, "anthropic-version": "2023-06-01"} | (bearer if provider.base_url else {})
