"""What the chaos does of each group of the language of flows: a module per group, with its workflows and its deeds.

A *deed* is what a client does with one number: it starts runs, signals, steers and looks at them, each under ids that
follow from the number, so that another client may do it again from the beginning where one was killed. What must have
come of it is in the module of the same name in `tests.chaos.checks`, which knows nothing of the engine.

A new group: its module here, its module there, and a line in `floor.GROUPS` and one in `checks.every.CHECKS`.
"""
