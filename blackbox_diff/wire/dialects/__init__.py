"""One module per server: how the server is asked, and how its answers are read."""
