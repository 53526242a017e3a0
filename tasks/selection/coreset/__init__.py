"""TAGCOS (arXiv 2407.15235): windows chosen by their clustered gradients, without a target task.

Where ours differs from the paper is said in the file of each part; the whole is ``features``
(:mod:`gradients`), then ``select`` (:mod:`select`), then ``quality`` (:mod:`quality`).

Shapes: ``N`` windows of the pool, ``T`` tokens of a window, ``P`` parameters of the branches,
``D`` dimensions after projection, ``K`` clusters, ``R`` rank, ``I``/``O`` in- and out-features.
"""
