"""Every bound on what a stranger controls, by name, with the reason for its size.

Neighbours: ``wire.codec`` and ``wire.envelope`` enforce most of them, ``membership`` and ``aggregation`` the rest.
Invariants: constants only; a size is in bytes, a count is a count, a time ends in ``_S``.
"""

MAX_BODY = 48 * 2**20
"""One envelope.  Sealing holds the interpreter lock for a whole body at about 1 GB/s, so this stays under 50 ms."""
MAX_BULK = MAX_BODY - 4 * 2**20
"""A model's state or a vector: what an envelope holds beside the header and a usual number of sealed seeds."""
MAX_CONTROL_BODY = 256 * 2**10
"""A message without a vector or model."""
MAX_COORDINATES = 10_000_000
"""Coordinates of one aggregated vector (40 MB at 32 bits)."""
MAX_DESCRIPTOR = 4096
"""One signed descriptor, hybrid KEM key (1,216 bytes) and addresses included."""
MAX_ADDRESSES = 8
MAX_ADDRESS = 255
MAX_CAPABILITIES = 16
MAX_COLLUSION_THRESHOLD = 16
MAX_BRANCHING = 64
MAX_COHORT = 1_000_000
MAX_DEPTH = 64
MAX_SEEDS_PER_HOP = 4096
"""Sealed seeds of one hop group in a partial; B**(S-1) of a usual shape is far below."""
MAX_SEALED_SEED = 1280
"""A sealed 32-byte seed: 80 with X25519, 1,168 with ML-KEM-768 + X25519."""
MAX_GOSSIP_DESCRIPTORS = 16
MAX_RUMOURS = 64
MAX_INCARNATION_LEAD = 3600
"""How far a rumour's incarnation may lie above its peer's descriptor and the clock's seconds: peers start from their
clock and count up by one, and every lie lifts its victim by twice this at most, so that nobody comes near 2**63."""
MAX_HEADS = 64
"""Task heads (task, walk, age) in one gossip message."""
MAX_TASKS = 64
MAX_TASK = 64 * 2**10
MAX_NAME = 100
"""Characters of a task's name, and of its model's."""
MAX_FEATURES = 100_000
MAX_BATCH = 1_000_000
MAX_STEPS = 100_000_000
MAX_STATISTICS_ROUNDS = 1000
MAX_WORK = 100_000_000_000
"""Records of one contribution times parameters: about a minute of one processor, where no model does more with each."""
MAX_MODELS = 16 * MAX_BODY
"""Models kept of tasks that others submitted, two of each (the newest and the one before); a quarter of it for those of
one submitter, which holds the two of two tasks with the largest model."""
MAX_WALKS = 32
MAX_ROUNDS_AT_ONCE = 8
"""Rounds in which one peer takes part at the same time, each until its last job is back, be the round over or not;
further offers are declined as busy, and walks wait."""
MAX_ROUNDS_OF_ONE_PARENT = 6
"""Of them, those under one parent: nobody takes all the places of another.  Half of them would be too few where the
fewest peers that can train share many walks."""
MAX_INLINE_STATE = 16 * 2**10
"""A model up to this size travels inside the offer."""
MAX_ANSWERS = 4 * MAX_BODY
"""Tasks and models sent for the asking between two questions of one peer (3 s), each counted as 16 KiB at least: what
a link of half a Gbit/s carries, and room for over 12,000 who ask for a small model at once."""
MAX_ANSWERS_TO_ONE = MAX_BODY
"""Of them to one peer: the largest model and every task."""
MAX_BUDGET_S = 600.0
"""Time budget of one round."""
MAX_ENVELOPE_TTL_S = 120.0
CLOCK_TOLERANCE_S = 120.0
"""How far two clocks may differ before messages are refused."""
KEM_EPOCH_S = 3600.0
"""Interval between rotations of the KEM key."""
KEM_KEEP_S = MAX_BUDGET_S
"""An old KEM key lives for one maximum round budget."""
MAX_REPLAY_ENTRIES = 200_000
"""Message ids remembered; when full, new messages are refused (closed, not open)."""
MAX_REPLAY_PER_SENDER = 20_000
MAX_NETWORK_FILE = 64 * 2**10
