"""Public testing kit: virtual time, simulation under faults, conformance suites, service launchers."""
