"""The peer: an asyncio daemon around ``protocol``, and the ``susurrus`` command.

Rooms:
    cli, commands/   what a user types; one module for each group of commands
    config           file, environment and flags -> one frozen configuration (``config_schema``: what is right)
    home, files      the home directory: made whole, locked, never overwritten; ``authority``: a network's directory
    daemon, driver   composition root; sole caller of the node: events in, effects out
    transport/       sealed envelopes over HTTP: server, client, addresses
    storage/         SQLite: journal, checkpoints, history
    learning/        data readers, models, trainer
    power/           when this machine may take part
    observe/         logs, metrics
    audit/           checks recordings of public data; demo and bench: the project's own measurements

Neighbours: imports ``protocol``; nothing imports it.
Invariants: no plaintext mode, no pickle, no telemetry; secrets never reach a log.
"""
