"""The commands `passbook worker`, `passbook verify` and `passbook dead-letters`."""
