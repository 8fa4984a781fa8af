"""Pure functions on arrays: scores and their intervals."""
