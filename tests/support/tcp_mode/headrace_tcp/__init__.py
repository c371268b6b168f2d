"""Lines over TCP: each is an event in the source's format, and is answered when it is committed."""
