"""The audit log: what happened, who did it, why; one class per event, one chain of hashes over all."""
