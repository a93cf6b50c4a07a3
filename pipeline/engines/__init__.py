"""Engines: what answers a request. One file each, one contract in `base.py`."""
