"""`python -m v2v_lite` is `v2v`."""

from .cli import main

if __name__ == "__main__":  # the bench's worker processes import this file again
    raise SystemExit(main())
