"""One contract, ``attention(q, k, v, mask, *, causal, offset, scale)``, and many ways to meet it.

:mod:`lookback.efficient.reference` is the definition; every other module is held against it.

============================  ===========================================  ======================
module                        what it saves                                against the reference
============================  ===========================================  ======================
``tiled``                     memory: ``T + S`` instead of ``T · S``       equal
``flash_triton``              time and memory: one kernel on a GPU         equal
``ring``                      memory: the sequence lies on many processes  equal
``cache``                     time: one row of scores a generated token    equal
``grouped``, ``latent``       memory of the cache                          equal
``window``, ``block_sparse``  time and memory: open scores only            equal under their mask
``linear``, ``delta_rule``    time and memory: a state of fixed size       another function
``linear_triton``             the same as ``linear``, in kernels on a GPU  as ``linear``
``random_features``           time and memory: a state of fixed size       an estimate
``low_rank``                  time and memory: ``R`` summaries of keys     an approximation
============================  ===========================================  ======================

Each module says in its docstring how far its result can be from softmax attention.
"""
