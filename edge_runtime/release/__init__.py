"""The releases on a device: the switch between them, and the trial of a new one.

This package runs on the Python of the device with only the standard library, as the single file
`release.pyz`: the way back from a broken release must not need the packages of that release.
"""
