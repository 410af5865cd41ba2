"""Training on several devices and several machines, on TensorFlow's own ``tf.distribute``.

``cluster`` says who takes part, ``meeting`` finds out whether they are there, ``strategies`` makes the strategy,
``replicas`` fits `zoo.train` to it, ``launch`` starts a cluster on this machine. Nothing here imports TensorFlow
before it is needed, so that a wrong cluster is told within a second.
"""
