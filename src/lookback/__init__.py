"""Lookback: the reference library of the course, from the recurrence to efficient attention.

Shapes are written with one letter an axis, batch first:

======  ==============================  ======  =====================
``B``   batch                           ``H``   heads
``T``   target or query length          ``K``   key (and query) width
``S``   source or key length            ``V``   value width
``D``   model width
======  ==============================  ======  =====================

Masks are boolean and True means "may attend". Device and dtype follow the input. Import the
module that you need (``from lookback import masks``): the package itself loads none of them.
"""

import jaxtyping as jaxtyping
import numpy as numpy
import torch as torch

__version__ = "0.1.0"
