"""What to buy next, when to stop, and what to ask again: pure decisions over what was bought so far."""
