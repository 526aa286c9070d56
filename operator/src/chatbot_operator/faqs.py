"""What is wrong with the FAQs of a resource, by their reader's own rules: no pod needs to try them for that.

Who may write a ConfigMap decides what is read here. So it is bounded, read beside the event loop and one at a time, and
its mistakes are remembered.
"""

import asyncio
import threading
from base64 import b64decode
from hashlib import sha256

from chatbot_resource.faqs import check_faqs

from chatbot_operator.world import Manifest

MOST = 200_000
"""Characters. YAML takes a thousand times as much memory at worst; of a longer text its pods alone tell."""

KNOWN = 100
"""Texts whose mistakes are remembered, without the texts: all of them would be more than a pod has room for."""

_one = threading.Lock()
_known: dict[bytes, str] = {}


async def mistake(live: Manifest | None, key: str) -> str:
    """In one key of a ConfigMap; empty when there is none, and when the key is not there."""
    return await asyncio.to_thread(mistake_at_once, live, key)


def mistake_at_once(live: Manifest | None, key: str) -> str:
    """The same for who has nothing else to do meanwhile."""
    try:
        text = _text(live or {}, key)
    except ValueError:
        return "not a text in UTF-8"
    return _mistake(text) if 0 < len(text) <= MOST else ""


def _text(live: Manifest, key: str) -> str:
    plain, packed = ((live.get(field) or {}).get(key, "") for field in ("data", "binaryData"))
    return str(plain) or b64decode(packed).decode()


def _mistake(text: str) -> str:
    key = sha256(text.encode()).digest()
    if (said := _known.get(key)) is not None:
        return said
    with _one:
        said = _known[key] = _first_mistake(text)
        while len(_known) > KNOWN:
            del _known[next(iter(_known))]
    return said


def _first_mistake(text: str) -> str:
    found = check_faqs(text)
    if not found:
        return ""
    first, more = found[0], f" ({len(found) - 1} more)" if len(found) > 1 else ""
    return f"line {first.line}: {f'{first.path} {first.text}'.strip()}{more}"
