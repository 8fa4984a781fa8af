"""One file per way that a data set comes in: its settings, and `read`, which makes Records of it."""
