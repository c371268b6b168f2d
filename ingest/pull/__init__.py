"""Pulling from a queue: messages from the client library's threads to the loop, and their acknowledgements back."""
