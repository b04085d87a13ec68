"""The policy on another computer."""
