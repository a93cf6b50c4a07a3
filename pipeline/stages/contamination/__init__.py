"""Whether a text shares a run of words with a benchmark, or is nearly one of its texts."""
