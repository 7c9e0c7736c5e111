"""An importer of scientific workflow traces in WfCommons' WfFormat: ``python -m examples.wfformat trace.json``."""
