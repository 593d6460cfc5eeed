"""``python -m peer``: the same as ``susurrus``."""

from peer.cli import main

main()
