"""The mistakes that a report shows are the worst ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.decision_rule import DecisionRule
from train.measurement import worst_mistakes


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1), st.floats(0.01, 0.99))
def test_the_worst_mistakes_are_wrong_and_come_first(
    cases: list[tuple[bool, float]], threshold: float
) -> None:
    labels = np.array([label for label, _ in cases]).astype(np.int64)
    scores = np.array([score for _, score in cases])
    worst = worst_mistakes(
        labels,
        np.stack([1 - scores, scores], axis=1),
        DecisionRule(("no", "yes"), {"yes": threshold}),
        count=5,
    )
    wrong = [i for i in range(len(cases)) if (scores[i] >= threshold) != labels[i]]
    off = np.abs(scores - labels)
    assert off[worst].tolist() == sorted(off[wrong], reverse=True)[:5]
    assert set(worst) <= set(wrong)
