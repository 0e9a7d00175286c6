"""Diffusion models whose features a task head is trained on, one folder per family."""
