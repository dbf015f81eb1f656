"""Servers that Passbook brings along, for the demo, for tests and for a first look.

Each is used with `with couchdb.running(settings)` or `with postgres.running(settings)`: it starts if it does
not run, is shared by every process that works on the same data directory, and stops when the last of them
leaves, however they end.
"""
