"""The speed of a bundle on this machine, compared with the bare interpreter and other software."""
