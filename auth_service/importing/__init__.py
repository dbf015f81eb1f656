"""Many people at once: from a CSV file, or from the ledger's own users of self-service."""
