"""`python -m passbook`."""

from passbook.cli import main

main()
