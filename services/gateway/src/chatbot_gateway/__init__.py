"""The only public door: identity, limits, streaming proxy, web page."""
