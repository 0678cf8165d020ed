"""`python -m v2v_lite` is `v2v`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
