"""Deployment from the host: questions, files and actions for a device, over SSH."""
