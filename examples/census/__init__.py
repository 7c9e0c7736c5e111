"""The code census: a durable count over a folder of Python sources, in one process or on many workers.

`app` is what ``floxide worker examples.census:app`` serves; ``python -m examples.census`` is the whole demo.
"""

from examples.census.application import app
from examples.census.workflow import CodeCensus

__all__ = ["CodeCensus", "app"]
