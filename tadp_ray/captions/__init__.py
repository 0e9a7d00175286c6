"""Captions and prompts as strings, before any text encoder."""
