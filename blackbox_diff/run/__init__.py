"""A run from its configuration to its stored results; only the pipeline knows all stages."""
