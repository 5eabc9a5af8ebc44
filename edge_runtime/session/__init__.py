"""One session from a capture device to results; `edge_runtime.session.assemble` begins it."""
