"""When this machine lets its peer take part: on a charger, on Wi-Fi, at night, while it is cool.

Rooms: ``sensors`` (what a reading is, and which sensor this machine has), ``termux`` and ``linux`` (two sensors),
``command`` (runs a program that may hang), ``gate`` (the decision, pure), ``watch`` (looks again and again),
``wakelock`` (keeps a phone awake while a round runs).
Neighbours: ``peer.daemon`` watches and leaves or comes back; ``peer.config`` says what the user asks for.
Invariants: whatever is asked for and cannot be known closes the gate; with nothing asked for no sensor is touched; at
most one child process of each command at a time, and none is left behind.
"""
