"""The engine: trains one cell with PyTorch alone and tells a reporter what happens."""
