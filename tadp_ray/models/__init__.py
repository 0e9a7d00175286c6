"""Diffusion backbones that see: Stable Diffusion's U-Net read once, with a task head on its features."""
