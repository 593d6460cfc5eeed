"""The susurrus protocol: private sums over trees of peers, and learning built on them.  Sans-IO.

No socket, no file, no clock, no operating-system randomness, no asyncio, no thread: time and entropy are arguments.
The same code is driven by the daemon (``peer``) and, under virtual time, by tests and simulations.

Rooms, lower ones first; a room imports only from rooms above it in this list:

- ``base``: identifiers, entropy port, limits, settings, errors
- ``identity``: keys, sealing, descriptors, admission to a network
- ``wire``: messages, codec, envelope
- ``training.task``, ``training.state``: what is learned together and how a model is laid out
- ``masking``: ring, keystream, masks;  ``privacy``: contribution rule, leakage, recordings
- ``work``: what is done in threads;  ``effects`` and ``events``: what a node may ask for, and all that can happen to it
- ``application``: the user's side;  ``reports``: what a node tells of itself
- ``membership``, ``aggregation``, ``training`` (update, walks): the machines; none of them imports another's state
- ``surroundings``: what a node is given, and what it remembers;  ``node``: composes the machines
- ``simulation``: the laboratory, whole networks of nodes under virtual time

SPEC.md describes the protocol as implemented.
"""
