"""Turns: prompt, providers, runs."""
