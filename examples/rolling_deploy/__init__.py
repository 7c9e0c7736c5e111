"""Version 1 of a workflow is replaced by version 2, worker by worker, while its runs are under way.

``python -m examples.rolling_deploy`` does it once for each policy, on RabbitMQ, with worker processes, and exits with 1
if a run failed, was left behind, or did not come to what its version should make of it.
"""
