"""Many audits under one budget, with one index."""
