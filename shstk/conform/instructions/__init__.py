"""The CPU's text (``model/cpu``) against a processor, one user-mode instruction at a time.

``generate`` makes random cases, ``predict`` executes them by the text on the reference machine,
the guest program ``guest/instructions`` on a real kernel, ``compare`` holds one against the other,
and ``campaign`` does all of it.
"""
