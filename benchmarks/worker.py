"""The application that ``floxide worker benchmarks.worker:app`` serves."""

from benchmarks.workflows import worker_app

app = worker_app()
