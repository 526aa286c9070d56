"""Conversations and their messages, as their owner sees them."""
