"""Depth from one image."""
