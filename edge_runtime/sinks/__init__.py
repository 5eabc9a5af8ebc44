"""Sinks, the places for results: one file for each kind; `edge_runtime.sinks.open` opens them."""
