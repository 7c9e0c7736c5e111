"""Typed records over the key-value port."""
