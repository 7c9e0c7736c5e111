"""Chaos on real parts: worker processes, a RabbitMQ and a store, mistreated by a seeded conductor, then checked.

``python -m tests.chaos --duration 600 --seed 1`` is the whole of it; ``python -m tests.chaos NAME`` one scenario.
"""
