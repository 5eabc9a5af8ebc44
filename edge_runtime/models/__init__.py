"""A network on the processors of this machine: backends, the classifier, the watchdog."""
