"""The witness: what CouchDB keeps of the audit log, so that a restored service database is known for what it is.

It has the log's newest row (`store`), and the rows that took something away from somebody (`entries`). Who may look
compares, notes it in the service database, and writes on (`keeper`); who may not goes by the note (`note`).
"""
