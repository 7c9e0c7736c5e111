"""``python -m floxide_amqp.apps.cli`` is the `floxide` command."""

from floxide_amqp.apps.cli.main import main

if __name__ == "__main__":
    main()
