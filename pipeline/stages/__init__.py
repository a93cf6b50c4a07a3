"""The stages, one family a file."""
