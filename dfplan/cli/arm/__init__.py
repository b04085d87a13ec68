"""Commands about an arm."""
