"""Ways to run a model server: each driver is one file behind ``port``, and its name one line (``registry`` says where).

The slot's way in is ``dispatcher.Dispatcher``, which asks the driver that a model's entry names, and only what it can.
"""
