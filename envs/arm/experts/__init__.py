"""Scripted experts and how they move."""
