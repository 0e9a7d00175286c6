"""Stable Diffusion XL as a backbone: two text encoders, a pooled vector of the text, and the image's size as a condition."""
