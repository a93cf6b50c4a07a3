"""How batches are planned: what keeps rows apart, how batches are filled, how they are numbered, and how a plan is checked."""
