"""What a locator learns by: the losses of its two maps."""

import tensorflow as tf


def score_loss(target: tf.Tensor, weight: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """Penalty-reduced focal loss, one number a picture (Law and Deng, "CornerNet", ECCV 2018).

    All three are float32 ``[N, places, places]``. The sum is divided by the mean number of centres
    of a picture in the batch, so that an empty picture weighs as much as any.
    """
    predicted = tf.clip_by_value(predicted, 1e-4, 1 - 1e-4)
    centres = tf.cast(target >= 0.999, tf.float32)
    found = centres * tf.square(1 - predicted) * tf.math.log(predicted)
    empty = (
        (1 - centres) * tf.pow(1 - target, 4.0) * tf.square(predicted) * tf.math.log1p(-predicted)
    )
    places = tf.reduce_sum((found + empty) * weight, axis=(1, 2))
    mean = tf.maximum(1.0, tf.reduce_sum(centres)) / tf.cast(tf.shape(target)[0], tf.float32)
    return -places / mean


def sides_loss(target: tf.Tensor, weight: tf.Tensor, predicted: tf.Tensor) -> tf.Tensor:
    """1 minus the generalised IoU of the boxes, one number a picture; 0 without a box.

    The sides are float32 ``[N, places, places, 4]``, of boxes about the same place, and the weight
    is ``[N, places, places]`` (Rezatofighi et al., "Generalized intersection over union", CVPR
    2019).
    """
    inner, outer = tf.minimum(target, predicted), tf.maximum(target, predicted)

    def area(sides: tf.Tensor) -> tf.Tensor:
        return (sides[..., 0] + sides[..., 2]) * (sides[..., 1] + sides[..., 3])

    both, hull = area(inner), area(outer)
    union = area(target) + area(predicted) - both
    iou = both / tf.maximum(union, 1e-6)
    giou = iou - (hull - union) / tf.maximum(hull, 1e-6)
    places = tf.reduce_sum((1 - giou) * weight, axis=(1, 2))
    return places / tf.maximum(tf.reduce_sum(weight, axis=(1, 2)), 1e-6)
