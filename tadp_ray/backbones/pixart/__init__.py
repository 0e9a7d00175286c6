"""PixArt-alpha and PixArt-Sigma as a backbone: a diffusion transformer, and a text encoder whose padding is not read."""
