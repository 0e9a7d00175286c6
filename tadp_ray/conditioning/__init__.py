"""Conditioning of a backbone: the text encoder from prompts to contexts, learned vectors, image encoders, and their join."""
