"""The agent ``qmap``: a map of what restoring each location would gain."""
