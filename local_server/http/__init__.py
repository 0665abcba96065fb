"""What clients see: routes, the fields each takes, and the shapes of the replies."""
