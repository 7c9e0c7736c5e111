"""The parts of the key-value conformance suite; `floxide_amqp.testing.key_value_suite` is its front door."""
