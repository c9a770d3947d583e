"""Training of enhancers, and what all trainings share: logs, checkpoints, faces in memory."""
