"""The nearest peer of our auth service, and how it is measured."""
