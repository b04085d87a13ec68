import math

from dfplan.tools.hardware import bf16_cost, hardware


def test_the_cost_of_half_precision_is_measured():
    assert 0 < bf16_cost("cpu") < math.inf and "torch" in hardware()
