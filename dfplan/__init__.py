"""Plan, imitate and control with one Diffusion Forcing model trained on demonstrations."""

__version__ = "0.1.0"
