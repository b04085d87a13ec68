"""Pictures: plans, denoising, curves, videos."""
