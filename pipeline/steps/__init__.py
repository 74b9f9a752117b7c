"""The steps of the line, in order."""

from __future__ import annotations

from pipeline.step import Step
from pipeline.steps import assemble, evaluate, label, load, precompute_pairs, record, train

STEPS: tuple[Step, ...] = (
    label.STEP,
    load.STEP,
    precompute_pairs.STEP,
    assemble.STEP,
    train.STEP,
    evaluate.STEP,
    record.STEP,
)
