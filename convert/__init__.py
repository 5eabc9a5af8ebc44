"""The converter: a run in, a bundle of TFLite variants out, each held against the float model.

To change | open
how a variant is converted | `tflite`, `variants`
how int8 gets its weights | `bias_correction`, `quantisation_aware`
the limits of the gate, as its sensitivity limit | `[limits]` of the recipe
what is held against the limits | `classification`
what the gate records | `assessment`
the card or the page beside the bundle | `card`, `report`
"""
