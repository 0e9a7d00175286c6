"""Stable Diffusion 1 and 2: loaded from any usual place, its U-Net read once as a feature pyramid."""
