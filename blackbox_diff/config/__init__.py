"""What a run is: endpoints, caps and the design, from TOML or options."""
