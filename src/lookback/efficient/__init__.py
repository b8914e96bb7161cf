"""One contract, ``attention(q, k, v, mask, *, causal, offset, scale)``, and many ways to meet it.

:mod:`lookback.efficient.reference` is the definition; every other module is held against it.
"""
