"""The readers, by the part of the program that they belong to. Importing them registers them."""

from tests.fuzz.targets import annotations, bundles, devices, exams, keys, pictures, training, words

__all__ = ["annotations", "bundles", "devices", "exams", "keys", "pictures", "training", "words"]
