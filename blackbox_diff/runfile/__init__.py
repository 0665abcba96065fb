"""The run file: one SQLite database in the run's directory. No other room touches SQLite."""
