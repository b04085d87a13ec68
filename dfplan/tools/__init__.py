"""What every room uses: messages, lazy names, progress, tagged JSON."""
