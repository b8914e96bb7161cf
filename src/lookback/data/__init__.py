"""Data sets of the course, each a module with its size and licence in its docstring.

Synthetic tasks are drawn by ``sample(n, …, seed=…)``: :mod:`.recall`, :mod:`.adding`,
:mod:`.copying`, :mod:`.reversal`, :mod:`.agreement`, :mod:`.phrases`, :mod:`.dates`.
Real data are read by ``load(…)``: :mod:`.digits`, :mod:`.source_code`, :mod:`.multi30k`.
:mod:`.vocabulary` turns tokens into numbers and :mod:`.loaders` sequences into padded batches. One
seed gives one data set.
"""
