"""What travels: message types, their one codec, and the envelope that seals them.

``messages`` says what there is, ``codec`` makes bytes of it and back, ``envelope`` signs and seals, ``replay``
remembers what was accepted.

Neighbours: stands on ``identity`` (descriptors, sealing) and ``base``; ``membership``, ``aggregation``,
``training`` and ``node`` speak in its messages.
Invariants: bytes from strangers have one door, ``codec.decode``; behind it types, lengths and counts are trusted.
"""
