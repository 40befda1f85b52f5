"""What is modelled: the state, the kernel's paths, and the designs under test.

Read it in this order: ``state`` (every variable), ``kernel/`` (the paths Linux
shares between designs), ``designs/`` (one file per design).  Nothing here knows
of solvers, graphs or the command line: the text is executed by *worlds*, which
live in ``shstk/``, and all it asks of them is in ``world``.
"""
