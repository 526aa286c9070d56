"""How long a text is, before a provider counts it."""

BYTES_PER_TOKEN = 4
MEDIA_TOKENS = {"image_url": 1_500, "input_audio": 2_000, "video_url": 10_000, "file": 10_000}
"""What parts of a message that are no text usually come to, whether they are sent along or named by their address."""


def size_of(text: str) -> int:
    """Bytes of it in UTF-8, also where half of a character is in it."""
    return len(text.encode("utf-8", "replace"))


def estimate_tokens(text: str) -> int:
    """A quarter of the text's UTF-8 bytes, rounded up: near enough for every common tokenizer."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_json(told: object) -> int:
    """Of what is sent as JSON, however deep it is; a picture counts as one, and not as the text that it is sent as."""
    length = tokens = 0
    left = [told]
    while left:
        match left.pop():
            case str(text):
                length += size_of(text) + 2
            case list(items):
                length += len(items)
                left += items
            case dict(fields):
                kind = fields.get("type")
                media = MEDIA_TOKENS.get(kind, 0) if isinstance(kind, str) else 0
                tokens += media
                length += sum(len(name) + 4 for name in fields)
                left += [value for name, value in fields.items() if not (media and name == kind)]
            case other:
                length += len(str(other))
    return tokens - (-length // BYTES_PER_TOKEN)
