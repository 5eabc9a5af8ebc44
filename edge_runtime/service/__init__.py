"""The deployed service, and the lock that keeps an update from an examination."""
