"""Agents of other libraries: Stable-Baselines3 and RLlib."""
