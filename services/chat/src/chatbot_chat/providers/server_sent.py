"""Server-sent events as they are read: the data of each, from bytes that are cut anywhere. Pure.

Lines end as the standard has it (WHATWG, 9.2.6), in LF, CR LF or CR. Names of events, ids and comments say nothing to
who reads a model's answer; an event that has not ended with the stream is none.
"""


class Events:
    """Of one stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that have ended with this piece."""
        text, half = self._rest + piece, b""
        if b"\r" in text:
            half = b"\r" if text.endswith(b"\r") else b""  # an LF may follow, and would not be another line's end
            text = text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        ended, _, rest = text.rpartition(b"\n\n")
        self._rest = rest + half
        return [data for event in ended.split(b"\n\n") if (data := _data(event))] if ended else []


def _data(event: bytes) -> bytes:
    return b"\n".join(line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
