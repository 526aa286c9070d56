"""What becomes of text that a provider sends."""


def whole_characters(text: str) -> str:
    """The text without halves of surrogate pairs: JSON can carry them, UTF-8 and Postgres cannot."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
