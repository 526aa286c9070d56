"""A process that logs in every way a service does; `test_telemetry` reads what it prints.

A process of its own, because logging and tracing are set up once per process and for all of it.
"""

import asyncio
import contextlib
import logging
import sys

import httpx2
from chatbot_common.app import Probes, create_service
from chatbot_common.identity import Identity, ServiceIdentity, UserVerifier
from chatbot_common.settings import TelemetrySettings
from chatbot_common.telemetry import configure_logging, configure_tracing
from fastapi import APIRouter

from tests.support.identity import KeyPair

router = APIRouter()


@router.get("/things/{thing_id}")
async def thing(thing_id: str) -> dict[str, str]:
    return {"id": thing_id}


@router.get("/crash")
async def crash() -> None:
    password = "hunter22"
    raise RuntimeError(f"crashed with {len(password)} characters")


async def main() -> None:
    """Make requests named by the trace ids on the command line."""
    configure_logging("info")
    telemetry = TelemetrySettings(otlp_endpoint=None, sample_ratio=0)
    provider = configure_tracing("noisy", "demo", telemetry, [])
    who = Identity(UserVerifier(_no_keys, "", ""), ServiceIdentity("noisy", KeyPair().private_text, {}))
    app = create_service("noisy", identity=who, probes=Probes(), routers=[router])
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        for path, trace_id in zip(("/things/secret-id?q=hunter22", "/crash"), sys.argv[1:], strict=True):
            with contextlib.suppress(RuntimeError):
                await client.get(path, headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
    logging.getLogger("uvicorn.error").info("a line of %s", "the server")
    logging.getLogger("httpx2").info("a line per request")
    provider.shutdown()


async def _no_keys() -> dict[str, list[object]]:
    return {"keys": []}


asyncio.run(main())
