"""Run the whole attack suite: `python -m tests.attack`, or `make attack`."""

import sys
from collections.abc import Mapping
from typing import Final

from tests.attack.composition import run_composition
from tests.attack.differential import run_differential
from tests.attack.documents import run_documents
from tests.attack.key_set_differential import run_key_set_differential
from tests.attack.runs import Attack, run_suite
from tests.attack.vectors import run_authorization_rows, run_token_rows, run_wycheproof

CLASSES: Final[Mapping[str, Attack]] = {
    "vectors: tokens": run_token_rows,
    "vectors: Authorization headers": run_authorization_rows,
    "vectors: Wycheproof": run_wycheproof,
    "hostile documents": run_documents,
    "composition matrix": run_composition,
    "differential: tokens": run_differential,
    "differential: key sets": run_key_set_differential,
}

if __name__ == "__main__":
    sys.exit(run_suite("attack-suite", CLASSES, processes=None))
