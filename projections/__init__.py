"""Ledger rows in, documents out: pure functions and typed models, no I/O and no clock.

A column of the ledger that `projections.rows` does not name is never read, so it cannot reach a device.
"""
