"""Accounts: who there is, and proof of a password."""
