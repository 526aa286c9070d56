"""A service for which time runs thirty times as fast where it verifies tokens: `hasty.py PACKAGE COMMAND…`."""

import runpy
import sys

from chatbot_common import identity

identity.JWKS_REFETCH_SECONDS = 1  # type: ignore[misc]
# And each token is verified each time, instead of once in a while.
identity.CLAIMS_CACHE_SECONDS = 0
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
