"""Networks that restore a whole face in one pass."""
