"""How fast this machine runs a bundle, beside the bare interpreter and other software."""
