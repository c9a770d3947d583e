"""Agents that learn nothing, or one schedule for all faces."""
