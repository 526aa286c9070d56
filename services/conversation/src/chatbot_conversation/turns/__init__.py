"""Turns: one question, its attempts at an answer, and who may store it."""
