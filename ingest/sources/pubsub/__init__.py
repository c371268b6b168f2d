"""Pulling from a queue: messages from the client library's threads to the loop, and their acknowledgements back."""

from __future__ import annotations

import os

# No child of ours goes on with gRPC after a fork; its handlers at a fork can crash one that only starts a program, such
# as the process that writes SQLite. It reads this once, when it is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
