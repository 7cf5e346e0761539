"""Values as JSON that every reader accepts."""

from __future__ import annotations

import json
import math

import numpy as np

from results.text import json_data


def test_numbers_of_numpy_are_plain_and_what_json_lacks_is_null():
    data = {"a": np.float32(0.5), 2: (np.int64(3), math.inf, [-math.inf, math.nan]), "b": True, "c": None, "d": "x"}
    text = json.dumps(json_data(data), allow_nan=False)
    assert json.loads(text) == {"a": 0.5, "2": [3, None, [None, None]], "b": True, "c": None, "d": "x"}
