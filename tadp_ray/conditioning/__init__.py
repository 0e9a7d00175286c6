"""Conditioning of a backbone: the text encoder from prompts to contexts, and learned tokens."""
