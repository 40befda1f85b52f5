"""Types that the tests of the guest share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Lines = list[dict[str, Any]]
Native = Callable[[str], Lines]
