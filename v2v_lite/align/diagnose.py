# SHIM: remove after the sweep
"""Old name of `align.diagnosis`."""

import sys
from typing import Any

from . import diagnosis

# The module gives way to the function, which the package's `diagnose` is.
function: Any = diagnosis.diagnose
for name in diagnosis.__all__:
    setattr(function, name, getattr(diagnosis, name))
function.verdict, function.combine = diagnosis.label_of, diagnosis.combined_score
function.closeness = diagnosis.nearest_neighbor_score
sys.modules[__name__] = function
