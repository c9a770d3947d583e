"""IPFH's policy controller and its training (section III)."""
