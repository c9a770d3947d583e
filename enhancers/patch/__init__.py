"""Networks that sharpen one patch at a time."""
