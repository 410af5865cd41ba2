"""Group normalisation against its definition in double precision."""

import numpy as np
import pytest

from zoo.backbones.norm import GroupNorm

GROUPS = 16


def defined(x: np.ndarray) -> np.ndarray:
    """Wu and He 2018, equations 1 to 5, of gamma 1 and beta 0."""
    groups = x.astype(np.float64).reshape(len(x), -1, GROUPS, x.shape[-1] // GROUPS)
    mean, variance = groups.mean((1, 3), keepdims=True), groups.var((1, 3), keepdims=True)
    return ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)


@pytest.mark.parametrize("flat", [False, True])
def test_a_large_map(flat):
    """In a flat picture means are far larger than deviations, and variances small differences of large numbers."""
    noise = np.random.default_rng(0).normal(0, 0.3, (1, 240, 320, 64))
    x = (noise + 3.0 * flat).astype(np.float32)
    found = np.asarray(GroupNorm(groups=GROUPS)(x))
    np.testing.assert_allclose(found, defined(x), atol=2e-4 if flat else 2e-6)
