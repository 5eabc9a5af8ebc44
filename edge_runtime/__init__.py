"""The runtime: frames and a bundle in, decisions out; what a device needs and nothing more."""
