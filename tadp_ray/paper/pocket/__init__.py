"""Pretrains the pocket Stable Diffusion on captioned scenes, and evaluates whether it understands words."""
