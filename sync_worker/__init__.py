"""Notice what changed in the ledger, read it, project it, write the difference to CouchDB, prove it is right."""
