"""What is remembered of tokens, and for how long."""

import time

import pytest
from chatbot_common import verified as module
from chatbot_common.verified import Verified


class TestVerified:
    def test_is_remembered_by_the_whole_token(self) -> None:
        known = Verified[str]()
        known.put("one.two.three", "ada", time.time() + 60)

        assert known.get("one.two.three") == "ada"
        assert known.get("one.two.thre") is None

    @pytest.mark.parametrize(("seconds", "remembered"), [(-1, False), (10, True)])
    def test_never_beyond_the_tokens_end(self, seconds: int, remembered: bool) -> None:
        known = Verified[str]()
        known.put("token", "ada", time.time() + seconds)

        assert (known.get("token") == "ada") is remembered

    def test_not_for_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        known = Verified[str]()
        known.put("token", "ada", time.time() + 600)
        later = time.time() + module.SECONDS + 1
        monkeypatch.setattr(module.time, "time", lambda: later)

        assert known.get("token") is None

    def test_the_oldest_make_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "SIZE", 2)
        known = Verified[str]()
        for token in ("a", "b", "c"):
            known.put(token, token, time.time() + 60)

        assert [known.get(token) for token in ("a", "b", "c")] == [None, "b", "c"]
