"""Server-sent events as they are read: whole ones, and the data of each, from bytes that are cut anywhere. Pure.

Lines end as the standard has it (WHATWG, 9.2.6), in LF, CR LF or CR. Names of events, ids and comments say nothing to
who reads a model's answer; an event that has not ended with the stream is none.
"""

LONGEST_EVENT = 2**24
"""Bytes. The longest there are have a picture in them."""
_LF, _OTHERS = b"\n\n", (b"\n\r\n", b"\r\r")


class Frames:
    """Of one stream: its bytes as they are, by whole events. Each byte is looked at once, however they are cut."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, piece: bytes) -> bytes:
        """The events that have ended with this piece, and what is between them.

        Raises:
            ValueError: one is longer than any is.
        """
        if not self._held and piece.endswith(_LF):  # as nearly all come
            return piece
        start = max(len(self._held) - 2, 0)
        self._held += piece
        end = _end(self._held, start)
        if len(self._held) - end > LONGEST_EVENT:
            raise ValueError("an event without an end")
        whole = bytes(self._held[:end])
        del self._held[:end]
        return whole

    def rest(self) -> bytes:
        """What is left when nothing follows."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def quiet(self, whole: bytes) -> bool:
        """Whether in these, and in the one that has begun since, there is nothing but comments."""
        if whole.startswith(b"data:") or bytes(self._held[:1]) not in (b"", b":"):
            return False
        return all(line[:1] in (b"", b":") for line in whole.splitlines())


def _end(held: bytearray, start: int) -> int:
    """Where the last event ends whose end is behind `start`; 0 if there is none."""
    ends = (_LF, *_OTHERS) if held.find(b"\r", start) >= 0 else (_LF,)
    found = [place + len(end) for end in ends if (place := held.rfind(end, start)) >= 0]
    return max(found, default=0)


class Events:
    """Of one stream."""

    def __init__(self) -> None:
        self._frames = Frames()

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that have ended with this piece. Raises `ValueError`, see `Frames`."""
        ended = self._frames.feed(piece)
        if b"\r" in ended:
            ended = ended.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return [data for event in ended[:-2].split(b"\n\n") if (data := _data(event))] if ended else []


def _data(event: bytes) -> bytes:
    return b"\n".join(line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
