"""The service database: its tables, its migrations, and how to connect to it."""
