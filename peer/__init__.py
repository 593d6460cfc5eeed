"""The peer: an asyncio daemon around ``protocol``, and the ``susurrus`` command.

What a user types and chooses:

- ``cli``, ``__main__``: the command, exit codes;  ``commands``: one module for each group of subcommands
- ``config``: file, environment and flags -> one frozen configuration;  ``config_schema``: what is right;  ``options``
- ``home``, ``files``, ``toml``: the home directory, made whole, locked, never overwritten;  ``authority``: a network's

The running peer, in the order of a message's way in:

- ``transport``: opaque bodies over HTTP: server, client, addresses;  ``delivery``: seals, finds an address, says hello
- ``turns``: when a message may be sealed and posted, so that no recipient holds up the others
- ``driver``: sole caller of the node, events in, effects out
- ``session``: one stay in the network, composed and ended in order;  ``daemon``: the process over all its stays
- ``power``: when this machine lets its peer take part: sensors, gate, wake lock
- ``entropy``: the operating system's randomness;  ``process``: interpreter lock and heap of the whole process
- ``threads``: for what may hang, and holds up no end;  ``lifeline``: the peer ends with whoever started it
- ``storage``: SQLite: journal, checkpoints, history
- ``learning``: data readers, models, trainer, packaged data sets;  it implements ``protocol.application``
- ``observe``: logs, counters, status, the admin endpoint;  ``admin_client``, ``health``: who asks it

The project's own measurements and checks:

- ``demo``: real processes on this machine;  ``audit``: recordings of public data, checked;  ``bench``: what it costs
- ``laboratory``: experiments of many runs under virtual time, and their reports;  ``progress``: how far things are

Neighbours: imports ``protocol``; nothing imports it.  ``errors`` holds what ends as one sentence.
Invariants: no plaintext mode, no pickle, no telemetry; secrets never reach a log; whatever a person can have got wrong
is found before the first packet leaves.
"""
