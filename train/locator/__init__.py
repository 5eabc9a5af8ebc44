"""The training of a locator: from whole pictures with boxes to a network that finds nodules."""
