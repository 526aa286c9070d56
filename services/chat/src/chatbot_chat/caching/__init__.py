"""Answers that are given again: to the same user, for what would be asked of a model in the same words.

Off unless the resource asks for it. See docs/decisions/0023-an-answer-again-only-to-who-got-it.md.
"""
