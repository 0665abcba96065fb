"""An optional chat model reads the evidence of a run."""
