"""Figures of images: palette, overlays, comparisons of systems, contact sheets and captions."""
