"""The real frameworks behind one face, for the grid of twins: one file per framework.

A frame builds a network of models.py out of its framework's own layers, trains it a few
steps, saves it as its users do, loads what nnferry wrote and runs it:

    NAME, SUFFIX       its name for --to, what its files end in ("" = a folder)
    LACKS              the networks that it cannot express
    OPTIONS            what else nnferry is told when it writes for it
    Net(model, dtype)  a network with numbers in it; net.cast(dtype) is the same in another type
    net.train_steps(n) a few steps of SGD on fixed data
    net.save(path), net.load(path)
    net.run()          outputs on the network's own input, numpy, batch first
    net.leaves()       {name: numpy array} of the framework's own objects, for the checker
    net.reset(seed)    other weights, for skeletons
    bits(path)         {name: (dtype, shape, bytes)} of a file, by the framework's own reader

Networks are written once, in models.py, against the operations of `Ops`; a frame's Ops makes
real layers by name on the first call and finds them again later. Images are whatever the
framework likes inside; what goes in is channels first and what comes out has no image axes.
"""
