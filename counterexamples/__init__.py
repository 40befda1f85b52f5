"""What comes out: traces, their file format, and how they are shown to a reader.

``trace`` has the types, ``itf`` the file format, ``render`` the text and diagrams.
``corpus/`` holds recorded traces.  Nothing here executes anything.
"""
