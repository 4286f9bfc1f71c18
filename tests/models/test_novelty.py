from __future__ import annotations

import json

import numpy as np

from galbatch.models.novelty import Novelty, learn_novelty


def test_rows_unlike_the_sample_stand_out() -> None:
    rng = np.random.default_rng(0)
    like = rng.normal(size=(4000, 5)).astype(np.float32)
    novelty = learn_novelty(like[:3000], like[3000:], seed=1)
    assert 0.002 < (novelty.score(like[3000:]) > 1).mean() < 0.01
    assert (novelty.score(like[:50] + 20) > 1).all()
    assert Novelty.from_json(json.loads(json.dumps(novelty.to_json()))) == novelty
    assert learn_novelty(like[:3000], like[3000:], seed=1) == novelty
