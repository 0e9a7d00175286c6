"""The training engine: trains one cell with PyTorch only, and reports to a `Reporter`."""
