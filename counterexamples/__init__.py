"""What comes out: traces as plain data, as ITF files, as text, and the recorded corpus.

And what goes in: scenario files that a person writes, executed on the reference machine
of ``model``, told in words and pictures.  Nothing here explores or proves.
"""
