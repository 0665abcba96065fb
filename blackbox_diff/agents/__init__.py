"""Tools for auditing agents: what they may do within what a person allowed."""
