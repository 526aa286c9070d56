"""The log: JSON lines on standard output, each with its trace, none with a secret."""

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from chatbot_common.spans import Discreet
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

TRACES = ("0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736")


@pytest.fixture(scope="module")
def output() -> str:
    command = [sys.executable, "-m", "tests.common.noisy", *TRACES]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603 - our own
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


class TestLog:
    def test_request(self, lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["event"] == "request")

        assert line["trace_id"] == TRACES[0]
        assert len(line["span_id"]) == 16
        assert (line["method"], line["endpoint"], line["status"]) == ("GET", "/things/{thing_id}", 200)
        assert line["level"] == "info"
        assert line["timestamp"].endswith("Z")
        assert isinstance(line["ms"], float)

    def test_request_that_crashed(self, lines: list[dict[str, Any]]) -> None:
        statuses = {line["endpoint"]: line["status"] for line in lines if line["event"] == "request"}

        assert statuses["/crash"] == 500

    def test_crash_has_its_stack_and_trace(self, lines: list[dict[str, Any]]) -> None:
        line = next(line for line in lines if line["event"] == "unhandled error")

        assert line["trace_id"] == TRACES[1]
        assert line["level"] == "error"
        assert line["exception"][0]["exc_type"] == "RuntimeError"
        assert line["exception"][0]["frames"]

    def test_secrets_stay_out(self, output: str) -> None:
        assert "hunter22" not in output
        assert "secret-id" not in output

    def test_other_libraries_too(self, lines: list[dict[str, Any]]) -> None:
        events = [line["event"] for line in lines]

        assert "a line of the server" in events
        assert "a line per request" not in events


class TestResource:
    def test_says_which_pod_it_is(self) -> None:
        """The operator gives the pod's name and namespace in OpenTelemetry's own variable."""
        program = (
            "import json\n"
            "from chatbot_common.settings import TelemetrySettings\n"
            "from chatbot_common.telemetry import configure_tracing\n"
            "told = TelemetrySettings(otlp_endpoint=None, sample_ratio=1)\n"
            "print(json.dumps(dict(configure_tracing('chat', 'harbour', told, []).resource.attributes)))"
        )
        environment = {"OTEL_RESOURCE_ATTRIBUTES": "k8s.namespace.name=bots,k8s.pod.name=harbour-chat-7d-x"}
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", program],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )

        attributes = json.loads(done.stdout)
        assert (attributes["service.name"], attributes["service.namespace"]) == ("chat", "harbour")
        assert attributes["k8s.namespace.name"] == "bots"
        assert attributes["k8s.pod.name"] == "harbour-chat-7d-x"


class TestSpans:
    """What a receiver gets of what libraries put into spans."""

    @pytest.fixture
    def sent(self) -> ReadableSpan:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(Discreet(exporter)))
        told = {
            "url.path": "/shared/hunter22",
            "url.query": "q=hunter22",
            "client.address": "192.0.2.7",
            "http.route": "/a",
        }
        told |= dict.fromkeys(("http.url", "url.full"), "https://me:hunter22@a:8/mcp/hunter22?key=hunter22")
        with (
            contextlib.suppress(ValueError),
            provider.get_tracer("test").start_as_current_span("GET", kind=SpanKind.SERVER, attributes=told),
        ):
            raise ValueError("Key (email)=(hunter22) already exists")
        [span] = exporter.get_finished_spans()
        return span

    def test_hold_no_words_and_nobodys_address(self, sent: ReadableSpan) -> None:
        assert "hunter22" not in sent.to_json()
        assert "192.0.2.7" not in sent.to_json()

    def test_tell_what_happened_and_where(self, sent: ReadableSpan) -> None:
        assert (sent.name, sent.kind, sent.status.status_code) == ("GET", SpanKind.SERVER, StatusCode.ERROR)
        assert dict(sent.attributes or {}) == {
            "http.route": "/a",
            "http.url": "https://a:8",
            "url.full": "https://a:8",
        }
        assert sent.context
        assert sent.context.is_valid
        assert (sent.end_time or 0) >= (sent.start_time or 1)
