"""Tells a Stable Diffusion about a look that it does not know. PyTorch, diffusers and transformers alone."""
