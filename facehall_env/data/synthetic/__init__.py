"""Invented faces: free to use, and there without any download."""
