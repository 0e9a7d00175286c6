"""What all families of latent diffusion models share: loading, hashing, keys, autoencoder, passes, attention maps, denoising."""
