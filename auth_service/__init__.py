"""People, passwords, devices, scopes and revocation: who gets which copy."""
