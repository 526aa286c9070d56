"""How long a text is, before a provider counts it."""

BYTES_PER_TOKEN = 4


def estimate_tokens(text: str) -> int:
    """A quarter of the text's UTF-8 bytes, rounded up: near enough for every common tokenizer."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)
