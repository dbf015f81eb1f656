"""The auth service over HTTP: people's door and administrators' door, never mixed."""
