"""Bytes to records, pure: one module for each kind of sender, over the walls that all of them share."""
