"""The only door from the internet to CouchDB: authenticates a device and lets it replicate one database."""
