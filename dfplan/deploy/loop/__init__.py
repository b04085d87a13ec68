"""Real time: the loop, its states, and the policy beside it."""
