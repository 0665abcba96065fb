"""What an endpoint can do, found by asking it, and whether it stays so."""
