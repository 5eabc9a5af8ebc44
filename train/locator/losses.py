"""What a locator learns by: the losses of its two maps."""

import tensorflow as tf


def score_loss(wanted: tf.Tensor, counts: tf.Tensor, answered: tf.Tensor) -> tf.Tensor:
    """Penalty-reduced focal loss, one number a picture (Law and Deng, "CornerNet", ECCV 2018).

    All three are float32 ``[N, places, places]``. It is divided by the centres of the whole batch
    over its pictures, so that an empty picture weighs as much as any.
    """
    answered = tf.clip_by_value(answered, 1e-4, 1 - 1e-4)
    centres = tf.cast(wanted >= 0.999, tf.float32)
    found = centres * tf.square(1 - answered) * tf.math.log(answered)
    empty = (1 - centres) * tf.pow(1 - wanted, 4.0) * tf.square(answered) * tf.math.log1p(-answered)
    places = tf.reduce_sum((found + empty) * counts, axis=(1, 2))
    mean = tf.maximum(1.0, tf.reduce_sum(centres)) / tf.cast(tf.shape(wanted)[0], tf.float32)
    return -places / mean


def sides_loss(wanted: tf.Tensor, near: tf.Tensor, answered: tf.Tensor) -> tf.Tensor:
    """1 minus the generalised IoU of the boxes, one number a picture; 0 without a box.

    The sides are float32 ``[N, places, places, 4]``, of boxes about the same place (Rezatofighi et
    al., "Generalized intersection over union", CVPR 2019).
    """
    inner, outer = tf.minimum(wanted, answered), tf.maximum(wanted, answered)

    def area(sides: tf.Tensor) -> tf.Tensor:
        return (sides[..., 0] + sides[..., 2]) * (sides[..., 1] + sides[..., 3])

    both, hull = area(inner), area(outer)
    union = area(wanted) + area(answered) - both
    iou = both / tf.maximum(union, 1e-6)
    giou = iou - (hull - union) / tf.maximum(hull, 1e-6)
    places = tf.reduce_sum((1 - giou) * near, axis=(1, 2))
    return places / tf.maximum(tf.reduce_sum(near, axis=(1, 2)), 1e-6)
