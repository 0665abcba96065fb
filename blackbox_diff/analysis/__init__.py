"""From scored completions to findings: pure functions over values, no I/O."""
