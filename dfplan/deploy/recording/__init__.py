"""Demonstrations recorded on a robot or read from bags."""
