"""The asyncio runtime: workers, orchestrator, caretaker. It speaks to ports only."""
