"""tadp_ray: what does text do to a diffusion backbone? Text-conditioned diffusion perception, swept and tabled."""

__version__ = "0.1.0"
