"""A real Linux kernel with user shadow stacks, booted on a machine that has none.

What is fetched and built stays outside the repository, in ``$XDG_CACHE_HOME/shstk/kernel``.
"""
