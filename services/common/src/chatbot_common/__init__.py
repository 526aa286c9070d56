"""Mechanics every service shares. No domain noun lives here."""
