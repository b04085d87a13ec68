"""Environments of other packages that are no Gymnasium environments, and scripted experts for them."""
