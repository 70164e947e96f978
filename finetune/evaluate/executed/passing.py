"""pass@k: the chance that one of k answers passes, told from n of them."""

from math import comb


def pass_at_k(num_samples: int, num_passed: int, *, k: int) -> float:
    """1 - C(n - c, k) / C(n, k), the unbiased estimate of arXiv 2107.03374, section 2.1; k is at most n."""
    assert 0 <= num_passed <= num_samples and 1 <= k <= num_samples
    return 1.0 - comb(num_samples - num_passed, k) / comb(num_samples, k)
