"""The bundle, a signed model file: archive, manifest, signature, trust, and contents."""
