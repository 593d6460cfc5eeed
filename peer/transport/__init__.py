"""The transport: moves opaque bodies between peers over HTTP/1.1 with keep-alive.

Map: ``server`` (two endpoints, limits on whatever a stranger controls), ``door`` (its connections), ``reply`` (what it
answers), ``largebody`` (how it receives megabytes without copying them), ``client`` (pooled connections,
retries), ``addresses`` (``host:port`` texts, resolution, own addresses), ``exchange`` (what both ends share), ``once``
(what strangers do, told once).
Neighbours: ``peer.session`` owns one server and one client; sealing, signing and replay protection happen in
``protocol.wire`` before a body gets here, so the transport trusts and understands nothing of it.
Invariants: no body is compressed, redirected or stored; memory held for strangers is bounded; nothing here logs a
body.  Because every envelope is replay-protected, sending the same body twice is harmless.
"""
