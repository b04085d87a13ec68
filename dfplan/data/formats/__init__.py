"""File formats, one module or folder each."""
