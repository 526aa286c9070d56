"""A service that asks for keys and ends connections thirty times as often: `hasty.py PACKAGE COMMAND…`."""

import runpy
import sys

from chatbot_common import connections, identity

identity.JWKS_REFETCH_SECONDS = 1  # type: ignore[misc]
# And each token is verified each time, instead of once in a while.
identity.CLAIMS_CACHE_SECONDS = 0
# Callers spread over old and new processes.
connections.recycled.__defaults__ = (connections.MAX_AGE_SECONDS / 30,)
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
