"""The process that writes, so that commits and the event loop do not wait for one interpreter.

The service sends the name of a transaction (storage.transactions) and its arguments; the process runs it and sends
back what it returned. It ends when the service is gone. One that is silent for a while, stopped or before a disk that
hangs, is killed and replaced.
"""
