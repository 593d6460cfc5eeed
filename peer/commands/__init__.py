"""What a user types: one module for each group of commands.

Rooms: ``network`` (authority and tokens), ``init``, ``run``, ``look`` (status, peers, rounds of a running peer),
``model``, ``measure`` (demo, bench), ``simulate``, ``audit``, ``leakage`` with ``leakage_report``; ``common`` (options
that several share, JSON and tables).
Neighbours: ``cli`` puts them together and turns their exceptions into exit codes.
Invariants: results go to standard output, everything else to standard error; with ``--json`` the result is one JSON
document, last; whatever is heavy is imported inside the function that needs it.
"""
