"""The whole platform as a user starts it: `chatbot up` on a resource file, real processes, real stores."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.support.model_server import ModelServer
from tests.support.otlp import OtlpReceiver
from tests.support.serving import free_port, in_thread

RESOURCE = """
apiVersion: chatbot-operator.io/v1alpha1
kind: ChatbotDeployment
metadata:
  name: tester
spec:
  profile: Dev
  llm:
    providers:
      - {{name: retrieval, type: Retrieval}}
      - {{name: scripted, type: OpenAICompatible, baseURL: "{model_url}/v1"}}
    models:
      - {{name: retrieval, deployments: [{{provider: retrieval, model: retrieval}}]}}
      - {{name: echo, deployments: [{{provider: scripted, model: echo}}]}}
    default: retrieval
  knowledge:
    faqRef: {{name: faqs, key: faqs.yaml}}
  limits: {{perMinute: 600, perHour: 6000}}
  telemetry:
    otlp: {{endpoint: "{otlp_url}"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: faqs}}
data:
  faqs.yaml: |
    - question: What are your opening hours?
      answer: We are open from 9 to 17 on weekdays.
      category: Visits
"""


@dataclass
class Laptop:
    """A bot on this machine, and the command line that manages it."""

    home: Path
    resource: Path
    port: int
    otlp: OtlpReceiver

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def chatbot(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line as a user would."""
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "chatbot_cli", *arguments],
            env=os.environ | {"CHATBOT_HOME": str(self.home), "NO_COLOR": "1", "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=110,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def up(self, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.chatbot("up", "-f", str(self.resource), "--port", str(self.port), *more, check=check)

    def token(self) -> str:
        return self.chatbot("token").stdout.strip()

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def laptop() -> Iterator[Laptop]:
    """A running bot, purged afterwards."""
    otlp = OtlpReceiver()
    with (
        tempfile.TemporaryDirectory(prefix="cb-", ignore_cleanup_errors=True) as folder,
        in_thread(otlp.app) as otlp_url,
        in_thread(ModelServer().app) as model_url,
    ):
        resource = Path(folder) / "bot.yaml"
        resource.write_text(RESOURCE.format(model_url=model_url, otlp_url=otlp_url))
        bot = Laptop(Path(folder) / "h", resource, free_port(), otlp)
        try:
            bot.up()
            yield bot
        finally:
            bot.chatbot("down", "--purge", "--yes", check=False)
