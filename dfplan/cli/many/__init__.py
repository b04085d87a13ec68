"""Commands that run many others."""
