"""Pixels of the screen: where the picture lies, whether it is sound, whether it moves."""
