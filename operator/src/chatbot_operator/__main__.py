"""The only way to start the operator: `python -m chatbot_operator`. A bare `kopf run` would go past the Lease."""

import asyncio
import gc
import os
import socket
import sys
from uuid import uuid4

from kubernetes.aio.config import ConfigException
from pydantic import ValidationError

from chatbot_operator import logs
from chatbot_operator.process import run
from chatbot_operator.settings import SETTINGS_VARIABLE, Settings

POD_NAME = "POD_NAME"
"""Who we are in the Lease. Outside a pod, where several may run on one host, a name made for this process."""
UNUSABLE = 2
COLLECTIONS = (10_000, 20, 20)
"""Objects more than before until the youngest are looked through; of those looks, until the older ones are, too."""


def main() -> int:
    try:
        settings = Settings.load()
    except KeyError:
        return _unusable(f"{SETTINGS_VARIABLE} is not set: name the file with the operator's settings")
    except (OSError, ValidationError) as error:
        return _unusable(f"the settings in {os.environ[SETTINGS_VARIABLE]} cannot be used: {error}")
    logs.configure(settings.log_level)
    _collect_seldom()
    try:
        return asyncio.run(run(settings, os.environ.get(POD_NAME) or f"{socket.gethostname()}_{uuid4()}"))
    except ConfigException as error:
        return _unusable(f"no way to an API server, neither a ServiceAccount nor $KUBECONFIG: {error}")


def _collect_seldom() -> None:
    """A plan makes thousands of objects that are in no cycle: at Python's own pace a quarter of it goes in looking."""
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)


def _unusable(why: str) -> int:
    print(why, file=sys.stderr)
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main())
