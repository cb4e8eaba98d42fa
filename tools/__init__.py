"""Scripts of the workshop."""
