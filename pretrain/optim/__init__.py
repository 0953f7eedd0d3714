"""Optimizers and schedules as frozen configs."""
