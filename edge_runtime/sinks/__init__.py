"""Where results go: one file each, opened by URI in `edge_runtime.sinks.open`."""
