"""One-time sign-in links."""
