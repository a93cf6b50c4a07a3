"""What to do with a release."""
