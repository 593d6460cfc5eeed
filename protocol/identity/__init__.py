"""Who a peer is and how it is believed: keys, sealing, certificates, signed descriptors.

    keys         Ed25519 signing key, KEM keys by epoch, the keyring; peer and network ids
    sealing      the one sealing primitive (HPKE), and mask seeds sealed with it
    admission    authority -> join token -> peer: tokens and certificate chains
    descriptor   what a peer says of itself, signed: keys, addresses, capabilities, chain
    fields       bounded msgpack reading, shared with ``wire``

Neighbours: stands on ``base`` alone; ``wire`` and everything above use it.
Invariants: fails closed (whatever does not verify is a ``Refused``, never a default); no secret appears in a repr
or an error; every signature and every HPKE ``info`` starts with its own domain tag, so bytes signed or sealed for
one purpose mean nothing for another.
"""
