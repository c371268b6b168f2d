"""Reads of the store, a file each: one function of a Connection, and one struct that is the row and its JSON.

Call them by `await database.read(function, …)`. Nothing here writes. HTTP API and command line read by the same ones.
"""
