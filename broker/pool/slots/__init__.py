"""What happens to slots and to the models on them: registered, ordered, reported, inspected, lost.

Its face is ``registration`` and ``reports`` (workers), ``states`` (operators) and ``orders`` (decisions); only
``residencies`` follows its table.
"""
