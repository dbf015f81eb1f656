"""What the pieces of Passbook share: settings, service database, CouchDB client, errors, command line."""

__version__ = "0.1.0"
