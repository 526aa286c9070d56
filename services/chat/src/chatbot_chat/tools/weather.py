"""The weather of a place, from a public API that needs no key, or from one that speaks like it (Open-Meteo)."""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from chatbot_chat.tools import ToolError

SECONDS = 10.0
DAYS = 3

_CODES: Mapping[int, str] = {
    **{0: "clear", 1: "mainly clear", 2: "partly cloudy", 3: "overcast", 45: "fog", 48: "freezing fog"},
    **{51: "light drizzle", 53: "drizzle", 55: "heavy drizzle", 56: "freezing drizzle", 57: "freezing drizzle"},
    **{61: "light rain", 63: "rain", 65: "heavy rain", 66: "freezing rain", 67: "heavy freezing rain"},
    **{71: "light snow", 73: "snow", 75: "heavy snow", 77: "snow grains"},
    **{80: "light showers", 81: "showers", 82: "violent showers", 85: "snow showers", 86: "heavy snow showers"},
    **{95: "thunderstorm", 96: "thunderstorm with hail", 99: "thunderstorm with heavy hail"},
}
"""As the World Meteorological Organization numbers them (table 4677)."""


class Place(BaseModel):
    name: str
    country: str = ""
    latitude: float
    longitude: float


class Places(BaseModel):
    results: list[Place] = []


class Current(BaseModel):
    temperature_2m: float
    apparent_temperature: float | None = None
    relative_humidity_2m: float | None = None
    weather_code: int | None = None
    wind_speed_10m: float | None = None


class Daily(BaseModel):
    time: list[str] = []
    weather_code: list[int | None] = []
    temperature_2m_min: list[float | None] = []
    temperature_2m_max: list[float | None] = []


class Forecast(BaseModel):
    current: Current
    daily: Daily = Daily()


Found = TypeVar("Found", bound=BaseModel)


class Weather:
    """`base_url` and `geocoding_url` end in the API's version path."""

    name = "weather"
    description = f"Tells the current weather of a place and its forecast for {DAYS} days."
    parameters: Mapping[str, Any] = {
        "type": "object",
        "properties": {"place": {"type": "string", "minLength": 2, "maxLength": 100, "description": "Such as Paris"}},
        "required": ["place"],
        "additionalProperties": False,
    }

    def __init__(self, base_url: str, geocoding_url: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._geocoding_url = geocoding_url.rstrip("/")
        self._client = httpx2.AsyncClient(timeout=SECONDS)

    async def run(self, arguments: Mapping[str, Any]) -> str:
        named = arguments["place"]
        places = await self._ask(Places, f"{self._geocoding_url}/search", {"name": named, "count": 1})
        if not places.results:
            raise ToolError(f"No place is called {named!r}; try the nearest town.")
        [place, *_] = places.results
        asked: dict[str, str | float] = {
            "latitude": place.latitude,
            "longitude": place.longitude,
            "current": ",".join(Current.model_fields),
            "daily": ",".join(name for name in Daily.model_fields if name != "time"),
            "forecast_days": DAYS,
            "timezone": "auto",
        }
        return told(place, await self._ask(Forecast, f"{self._base_url}/forecast", asked))

    async def _ask(self, model: type[Found], url: str, asked: Mapping[str, str | float]) -> Found:
        try:
            response = (await self._client.get(url, params=dict(asked))).raise_for_status()
            return model.model_validate_json(response.content)
        except (httpx2.HTTPError, ValidationError) as error:
            raise ToolError("The weather service does not answer as it should; try again later.") from error

    async def close(self) -> None:
        await self._client.aclose()


def told(place: Place, forecast: Forecast) -> str:
    """In words and degrees Celsius."""
    now, daily = forecast.current, forecast.daily
    where = ", ".join(filter(None, (place.name, place.country)))
    measured = (
        _sky(now.weather_code),
        f"{now.temperature_2m:g} °C",
        None if now.apparent_temperature is None else f"feels like {now.apparent_temperature:g} °C",
        None if now.relative_humidity_2m is None else f"humidity {now.relative_humidity_2m:g} %",
        None if now.wind_speed_10m is None else f"wind {now.wind_speed_10m:g} km/h",
    )
    lines = [f"{where} now: {', '.join(filter(None, measured))}"]
    days = zip(daily.time, daily.weather_code, daily.temperature_2m_min, daily.temperature_2m_max, strict=False)
    for day, code, low, high in days:
        if low is not None and high is not None:
            lines.append(f"{day}: {', '.join(filter(None, (_sky(code), f'{low:g} to {high:g} °C')))}")
    return "\n".join(lines)


def _sky(code: int | None) -> str | None:
    return None if code is None else _CODES.get(code)
