"""What must have come of each group's runs: a module per group. Nothing here knows the engine."""
