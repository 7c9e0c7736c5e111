"""The workflow patterns of van der Aalst, ter Hofstede, Kiepuszewski and Barros as programs: docs/patterns.md."""
