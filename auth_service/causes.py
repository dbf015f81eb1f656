"""Why the access of a device or a session ended: what its own app is told, and nobody else."""

from __future__ import annotations

from typing import Literal

#: `institution`: an administrator or the operator ended it. `password_changed`: it ended with the old password.
#: `other_device`: its person ended it from elsewhere. `signed_out`: it was signed out.
Cause = Literal["institution", "password_changed", "other_device", "signed_out"]
#: A session also ends when one of its refresh tokens came again after the one given for it was used.
SessionCause = Cause | Literal["token_reused"]
#: What the app of a session is told: also that it was not used for too long, or has had its time.
Told = SessionCause | Literal["expired"]
