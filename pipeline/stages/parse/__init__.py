"""Parsers: from a model's reply to a pair, to a seed for the next request, or to a pair with more to it."""
