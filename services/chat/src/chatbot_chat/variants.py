"""Who answers for the assistant, and by which prompts: as the resource says, or by the user's side of an A/B test.

The side is drawn by nothing but the user's id and the names and weights of the variants, so every replica draws the
same, today and tomorrow. It counts only where it decides: who names a model has chosen themselves.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from opentelemetry import trace

from chatbot_chat.settings import Settings, VariantSettings


@dataclass(frozen=True)
class Choice:
    """`prompts`: language → system prompt. `variant` is None outside of a test."""

    model: str
    prompts: Mapping[str, str]
    variant: str | None = None


class Choices:
    """Args:
    variants: with the prompts of each, language → text.
    """

    def __init__(
        self,
        default: str,
        prompts: Mapping[str, str],
        variants: Sequence[tuple[VariantSettings, Mapping[str, str]]] = (),
    ) -> None:
        self._default = Choice(default, prompts)
        self._weights = {variant.name: variant.weight for variant, _ in variants}
        self._variants = {
            variant.name: Choice(variant.model or default, {**prompts, **own}, variant.name)
            for variant, own in variants
        }

    def of(self, user_id: UUID, named: str | None = None) -> Choice:
        """For a user who may have `named` a model."""
        if named is not None:
            return Choice(named, self._default.prompts)
        side = assigned(user_id, self._weights)
        return self._variants[side] if side else self._default

    def again(self, model: str, variant: str | None) -> Choice:
        """Once more the model that an answer began with, by the prompts of its variant as far as there still is one."""
        known = self._variants.get(variant or "", self._default)
        return Choice(model, known.prompts, variant)


def assigned(user_id: UUID, weights: Mapping[str, int]) -> str | None:
    """The user's variant; None where there are none.

    Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): each variant draws for itself, the best draw wins.
    So a variant that comes, goes or changes its weight moves users to or from itself, and nobody between the others.
    """
    return max(weights, key=lambda name: -weights[name] / math.log(_drawn(user_id, name)), default=None)


def _drawn(user_id: UUID, name: str) -> float:
    """Evenly between 0 and 1, both excluded."""
    digest = sha256(user_id.bytes + name.encode()).digest()
    return (int.from_bytes(digest[:6]) + 0.5) / 2**48


def marked(variant: str | None) -> dict[str, str]:
    """Tell the current span of it; returns what the start of a run tells."""
    if variant is None:
        return {}
    trace.get_current_span().set_attribute("chatbot.variant", variant)
    return {"variant": variant}


def make_choices(settings: Settings) -> Choices:
    """Raises `OSError`: a prompt cannot be read."""
    variants = [(variant, _texts(variant.prompt_files)) for variant in settings.variants]
    return Choices(settings.default_model, _texts(settings.prompt_files), variants)


def _texts(files: Mapping[str, str]) -> dict[str, str]:
    return {language: Path(path).read_text() for language, path in files.items()}
