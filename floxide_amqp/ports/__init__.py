"""What the engine needs from the world, as small Protocols; their docstrings are the contract."""
