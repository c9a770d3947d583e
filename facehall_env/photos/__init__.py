"""Faces in photographs: found, cut out, and put back."""
