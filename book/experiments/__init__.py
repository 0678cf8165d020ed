"""What makes the book's costly tables: one module per experiment, one runner.

`make bench NAME=align`, or `python -m experiments align` with `book/` on the path. Not
part of the wheel: chapters read the results and import `v2v_lite.teaching` alone.
"""
