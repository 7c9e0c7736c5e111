"""The pure heart of the engine: definitions, records and decisions; no IO, no clock, no randomness."""
