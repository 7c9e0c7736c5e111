"""Public testing kit: conformance suites, a virtual clock, service launchers."""
