"""Which of the passages that a search found may serve as negatives."""
