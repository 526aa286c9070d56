"""API keys: what programs sign in with, and what each may do and spend."""
