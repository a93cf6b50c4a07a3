"""A finished export as a folder that can be kept, pushed and cited."""
