"""The converter: a run in, a bundle of TFLite variants out, each held against the float model."""
