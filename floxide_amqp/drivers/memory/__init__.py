"""In-process drivers: nothing survives the process."""
