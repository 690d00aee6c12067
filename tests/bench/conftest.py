"""The bench is run from the repository's folder (``python -m bench``); here it is found from anywhere."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
