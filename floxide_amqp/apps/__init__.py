"""The composition root: the application object, the command line, settings."""
