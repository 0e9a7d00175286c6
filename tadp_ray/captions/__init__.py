"""Captions and prompts: strings in, strings out. What is said about an image, before any text encoder reads it."""
