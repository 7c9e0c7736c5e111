"""The application that ``floxide worker benchmarks.trace_worker:app`` serves: the trace that its environment names."""

from benchmarks.traces import worker_app

app = worker_app()
