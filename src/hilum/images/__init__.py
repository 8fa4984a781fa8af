"""Pixels: reading, storing, warping and drawing radiographs; no torch."""
