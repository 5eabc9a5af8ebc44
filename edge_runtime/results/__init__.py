"""The result of a frame, the states of a session, and the summary of a session."""
