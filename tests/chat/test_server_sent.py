"""Reading of server-sent events: the same events, wherever the network cuts the bytes."""

from itertools import pairwise

import pytest
from chatbot_chat.providers.server_sent import Events
from hypothesis import given
from hypothesis import strategies as st

STREAM = b': hello\ndata: {"a":\ndata: 1}\n\nevent: ping\nid: 7\n\n\ndata:[DONE]\n\ndata: not ended'
TOLD = [b'{"a":\n1}', b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    events = Events()
    return [data for piece in pieces for data in events.feed(piece)]


class TestEvents:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    @given(cuts=st.lists(st.integers(0, len(STREAM) * 2)))
    def test_are_the_same_wherever_they_are_cut(self, end: bytes, cuts: list[int]) -> None:
        stream = STREAM.replace(b"\n", end)
        places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
        assert read(*(stream[start:stop] for start, stop in pairwise(places))) == TOLD

    def test_are_told_with_the_piece_that_ends_them(self) -> None:
        events = Events()
        assert events.feed(b"data: one\n") == []
        assert events.feed(b"\ndata: two") == [b"one"]
        assert events.feed(b"\r\n\r\n") == [b"two"]
