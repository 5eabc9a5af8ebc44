"""What lies on a device and lives there: releases, the switch between them, their trial.

It runs on the device's own Python with nothing but its standard library, as the one file
`release.pyz`: what goes back from a broken release must not need what that release installed.
"""
