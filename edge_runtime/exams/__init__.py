"""Exams, kept on the device: what was decided in a session, on which pictures, by which model."""
