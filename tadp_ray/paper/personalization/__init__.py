"""Personalizes a Stable Diffusion to a new style, by textual inversion or DreamBooth."""
