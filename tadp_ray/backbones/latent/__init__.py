"""What all families of latent diffusion models share."""
