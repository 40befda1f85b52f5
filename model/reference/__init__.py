"""The concrete world: an executable reference machine over real 64-bit addresses.

Here an address is a number, an area has a size, and a stack has contents: guard gaps, partial
overlap, tokens and wrong accesses are what they are on the machine, not choices.  ``areas`` has
areas and where new ones go, ``memory`` what is in them and who may access it, ``vma`` the whole
address space with the system calls that change it.
"""
