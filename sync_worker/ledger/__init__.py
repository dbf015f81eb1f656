"""Reading the core ledger: read only, in batches, a constant number of queries inside one snapshot each."""
