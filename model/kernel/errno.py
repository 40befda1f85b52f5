"""Error numbers, as positive integers (include/uapi/asm-generic/errno.h, 6.12).

Text returns them positive, and 0 for success; the C returns them negative.
"""

from __future__ import annotations

EPERM = 1
ENOENT = 2
EINTR = 4
E2BIG = 7
EAGAIN = 11
ENOMEM = 12
EFAULT = 14
EBUSY = 16
EEXIST = 17
EINVAL = 22
EMFILE = 24
ENOSPC = 28
ERANGE = 34
ENOSYS = 38
EOVERFLOW = 75
EOPNOTSUPP = 95
ECANCELED = 125
