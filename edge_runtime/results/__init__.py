"""The words of results: the result of a frame, the states of a session, its summary."""
