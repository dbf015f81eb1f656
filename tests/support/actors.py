"""Who does things in tests."""

from __future__ import annotations

from passbook.audit.chain import Actor

TESTER = Actor("operator", "tester")
