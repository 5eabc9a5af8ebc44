"""What a release is carried in: a Debian package, an image for containers, and its bill."""
