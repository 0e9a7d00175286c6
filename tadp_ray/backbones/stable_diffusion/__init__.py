"""Stable Diffusion 1.x and 2.x as a backbone: loading, attention maps, features and image generation."""
