"""Conservation: does what the store holds agree with what it counted? Each kind of check is a file.

A check is a function of a Connection and yields findings. What it compares is of one moment (`snapshot.py`), and every
moment is short: nobody waits for a check, however large the store is.
"""

from __future__ import annotations
