"""Makes the pocket Stable Diffusion from captioned scenes, and measures whether words mean anything to it."""
