"""The other built-in tools, each as a model calls it."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from chatbot_chat.conversation_client import Knowledge, Passage, SpokenMessage
from chatbot_chat.tools import ToolError
from chatbot_chat.tools.clock import Clock
from chatbot_chat.tools.knowledge import KnowledgeSearch, Shelf
from chatbot_chat.tools.pages import text_of
from chatbot_chat.tools.report import ConversationReport, report
from chatbot_chat.tools.weather import Weather
from chatbot_common.errors import Unavailable
from chatbot_common.ids import uuid7
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.serving import in_thread

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class TestClock:
    async def test_in_a_time_zone(self) -> None:
        clock = Clock(lambda: NOON)
        assert await clock.run({}) == "Saturday, 2026-11-21T12:00:00+0000 (UTC)"
        assert await clock.run({"timezone": "Asia/Tokyo"}) == "Saturday, 2026-11-21T21:00:00+0900 (Asia/Tokyo)"

    @pytest.mark.parametrize("name", ["Mars/Base", "../../etc/passwd", "Europe", "/etc/localtime", "a\x00b"])
    async def test_a_zone_that_is_none(self, name: str) -> None:
        with pytest.raises(ToolError, match="no time zone"):
            await Clock().run({"timezone": name})


FORECAST: dict[str, Any] = {
    "current": {"temperature_2m": 8.1, "relative_humidity_2m": 81, "weather_code": 61, "wind_speed_10m": 12.5},
    "daily": {
        "time": ["2026-11-21", "2026-11-22"],
        "weather_code": [61, None],
        "temperature_2m_min": [4.0, 2.5],
        "temperature_2m_max": [9.0, 7],
    },
}


async def _search(request: Request) -> Response:
    named = request.query_params["name"]
    place = {"name": named, "country": "France", "latitude": 48.85, "longitude": 2.35}
    return JSONResponse({"results": [place]} if named != "Nowhere" else {"generationtime_ms": 0.1})


async def _forecast(request: Request) -> Response:
    assert request.query_params["latitude"] == "48.85"
    assert "temperature_2m" in request.query_params["current"].split(",")
    return JSONResponse(FORECAST)


@pytest.fixture(scope="module")
def weather_url() -> Iterator[str]:
    routes = [Route("/v1/search", _search), Route("/v1/forecast", _forecast)]
    with in_thread(Starlette(routes=routes)) as url:
        yield url + "/v1"


@pytest.fixture
async def weather(weather_url: str) -> AsyncIterator[Weather]:
    tool = Weather(weather_url, weather_url)
    yield tool
    await tool.close()


class TestWeather:
    async def test_of_a_place(self, weather: Weather) -> None:
        assert await weather.run({"place": "Paris"}) == (
            "Paris, France now: light rain, 8.1 \u00b0C, humidity 81 %, wind 12.5 km/h\n"
            "2026-11-21: light rain, 4 to 9 \u00b0C\n"
            "2026-11-22: 2.5 to 7 \u00b0C"
        )

    async def test_of_no_place(self, weather: Weather) -> None:
        with pytest.raises(ToolError, match="No place is called 'Nowhere'"):
            await weather.run({"place": "Nowhere"})

    @pytest.mark.parametrize("url", ["http://127.0.0.1:1/v1", None])
    async def test_service_that_is_away_or_another(self, weather_url: str, url: str | None) -> None:
        tool = Weather(url or weather_url + "/elsewhere", weather_url)
        with pytest.raises(ToolError, match="weather service does not answer"):
            await tool.run({"place": "Paris"})
        await tool.close()


def passage(title: str, score: float = 0.9) -> Passage:
    return Passage(id=uuid7(), kind="faq", title=title, text=f"About {title}.", url=None, score=score)


class TestKnowledgeSearch:
    async def test_goes_on_with_the_numbers_of_the_turn(self) -> None:
        hours, returns, dogs = passage("Hours"), passage("Returns"), passage("Dogs")
        shelf = Shelf(Knowledge(passages=[hours, returns]))

        async def search(query: str) -> Knowledge:
            assert query == "dogs"
            return Knowledge(passages=[dogs, hours, passage("Cats", score=0.1)])

        tool = KnowledgeSearch(search, shelf)
        assert await tool.run({"query": "dogs"}) == "[3] Dogs\nAbout Dogs.\n\n[1] Hours\nAbout Hours."
        assert await tool.run({"query": "dogs"}) == "[3] Dogs\nAbout Dogs.\n\n[1] Hours\nAbout Hours."
        assert [item.title for item in shelf.knowledge.passages] == ["Hours", "Returns", "Dogs"]

    async def test_one_that_was_too_far_from_the_question_gets_a_number_of_its_own(self) -> None:
        far = passage("Dogs", score=0.1)
        shelf = Shelf(Knowledge(passages=[far]))

        async def search(_: str) -> Knowledge:
            return Knowledge(passages=[far.model_copy(update={"score": 0.8})])

        assert (await KnowledgeSearch(search, shelf).run({"query": "dogs"})).startswith("[2] Dogs")

    async def test_nothing_found_and_nothing_searched(self) -> None:
        async def nothing(_: str) -> Knowledge:
            return Knowledge()

        async def away(_: str) -> Knowledge:
            raise Unavailable

        assert "has nothing" in await KnowledgeSearch(nothing, Shelf(Knowledge())).run({"query": "dogs"})
        with pytest.raises(ToolError, match="cannot be searched"):
            await KnowledgeSearch(away, Shelf(Knowledge())).run({"query": "dogs"})


def spoken(role: Any, text: str, minutes: int, **fields: Any) -> SpokenMessage:
    known = {"role": role, "text": text, "parts": [], "model": None, "usage": None}
    return SpokenMessage.model_validate(known | {"created_at": NOON + timedelta(minutes=minutes)} | fields)


class TestReport:
    def test_figures(self) -> None:
        called = {"type": "tool_call", "name": "calculator"}
        answered = {"model": "main", "usage": {"input_tokens": 10, "output_tokens": 5}}
        messages = [
            spoken("user", "How many?", 0),
            spoken("assistant", "Two or three.", 1, parts=[called, called], **answered),
            spoken("user", "Sure?", 61),
            spoken("assistant", "Yes.", 62, **answered),
        ]
        assert report(messages).splitlines() == [
            "Began: 2026-11-21 12:00 UTC; lasted 1 h 2 min",
            "Questions: 2 with 3 words",
            "Answers: 2 with 4 words",
            "Tokens: 20 read, 10 written",
            "Models: main (2)",
            "Tools: calculator (2)",
        ]

    def test_of_a_conversation_that_begins(self) -> None:
        assert "Nothing has been stored" in report([])

    async def test_conversation_that_cannot_be_read(self) -> None:
        async def away() -> list[SpokenMessage]:
            raise Unavailable

        with pytest.raises(ToolError, match="cannot be read"):
            await ConversationReport(away).run({})


class TestPages:
    def test_words_of_a_page(self) -> None:
        page = (
            "<!DOCTYPE html><head><title>Hi &amp; you</title><style>p {}</style></head>"
            "<p>One <b>bold</b>\n word<br>3 < 4"
            "<SCRIPT>if (a<b) '<p>'</SCRIPT ><!-- > not this --><div>end"
        )
        assert text_of(page).splitlines() == ["Hi & you", "One bold word", "3 < 4", "end"]

    @pytest.mark.parametrize(
        "piece", ["<a ", "<!--", "<", "</", "<a x='", "<script>", "<script></script", "&#x", "<b>"]
    )
    def test_a_page_made_to_take_long_does_not(self, piece: str) -> None:
        """Python's own parser needs half a minute for a tenth of it."""
        assert len(text_of(piece * (200_000 // len(piece)))) <= 200_000
