"""The real frameworks behind one face, for the grid of twins: one file per framework.

A frame builds a network of models.py out of its framework's own layers, trains it a few
steps, saves it as its users do, loads what nnferry wrote and runs it:

    NAME, KINDS        its name for --to, the layer kinds it can express
    SUFFIX             of its files
    build(model, dtype) -> net; .state is whatever the framework calls weights
    net.train(steps)   a few steps of SGD on fixed data
    net.save(path)     net.load(path), net.run(x) -> numpy array, batch first
    net.reset(seed)    other weights, for skeletons

Networks are written once, in models.py, against the operations of `Ops`; a frame's Ops makes
real layers by name on the first call and finds them again later. Images are whatever the
framework likes inside; what goes in is channels first and what comes out has no image axes.
"""
