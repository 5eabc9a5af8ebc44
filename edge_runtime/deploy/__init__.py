"""The host's side of a release: what a device is asked, sent, and told, over SSH."""
