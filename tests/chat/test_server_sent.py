"""Reading of server-sent events: the same events, wherever the network cuts the bytes."""

import time
from itertools import pairwise

import pytest
from chatbot_chat.providers.server_sent import LONGEST_EVENT, Events, Frames
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

    def test_cost_no_more_where_they_are_long(self) -> None:
        """One with a picture in it comes in a thousand pieces: the loop of all other streams must not read it again and
        again."""
        events, piece = Events(), b"x" * 2**13
        begun = time.process_time()
        events.feed(b"data: ")
        for _ in range(LONGEST_EVENT // len(piece) - 1):
            assert events.feed(piece) == []
        [data] = events.feed(b"\n\n")
        assert len(data) == LONGEST_EVENT - len(piece)
        assert time.process_time() - begun < 2

    def test_without_an_end_are_none(self) -> None:
        events, piece = Events(), b"x" * 2**20
        for _ in range(LONGEST_EVENT // len(piece)):
            assert events.feed(piece) == []
        with pytest.raises(ValueError, match="without an end"):
            events.feed(piece)


class TestFrames:
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
    @given(cuts=st.lists(st.integers(0, len(STREAM) * 2)))
    def test_are_the_bytes_that_came(self, end: bytes, cuts: list[int]) -> None:
        stream, frames = STREAM.replace(b"\n", end), Frames()
        places = sorted({0, *(min(cut, len(stream)) for cut in cuts), len(stream)})
        whole = [frames.feed(stream[start:stop]) for start, stop in pairwise(places)]
        assert all(part == b"" or part.endswith(end * 2) for part in whole)
        assert b"".join([*whole, frames.rest()]) == stream

    def test_of_comments_alone_are_quiet_however_they_are_cut(self) -> None:
        frames = Frames()
        assert [frames.quiet(frames.feed(piece)) for piece in (b": pi", b"ng", b"\n\n", b": pong\n\n")] == [True] * 4
        assert not frames.quiet(frames.feed(b": ping\n\nda"))
        assert not frames.quiet(frames.feed(b"ta: 1\n\n"))
        assert not frames.quiet(frames.feed(b": ping\n\ndata: 1\n\n"))
