"""Who is measured against whom: `python -m benchmarks peers`. One module for each, with its manual's advice.

The modules of other projects run in an environment of their own (`requirements.txt`); nothing here but `ours` imports
floxide_amqp.
"""
