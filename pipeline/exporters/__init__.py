"""What a trainer loads."""
