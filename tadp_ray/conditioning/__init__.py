"""What a backbone is conditioned on: prompts through a text encoder to contexts, learned tokens, a cache."""
