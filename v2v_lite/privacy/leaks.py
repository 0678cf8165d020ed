# SHIM: remove after the sweep
# ruff: noqa: F401, F403
from .leakage import *
from .leakage import TextLeakage as Leak
from .leakage import contains_fact as holds
from .leakage import text_leakage as leak
