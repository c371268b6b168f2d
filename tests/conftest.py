"""What holds for all tests."""

from __future__ import annotations

import os

# gRPC's threads are none of a child's business that only starts a program: its handlers at a fork made some of them
# crash. It reads this once, when it is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
