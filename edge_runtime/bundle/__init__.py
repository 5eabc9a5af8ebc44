"""What a model file is, and who made it: the archive, its manifest, signature and trust."""
