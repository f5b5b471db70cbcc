"""Run the long proofs: `python -m tests.prove`, or `make prove`."""

import sys
from collections.abc import Mapping
from typing import Final

from tests.attack.runs import Attack, run_suite
from tests.prove.fuzz_cli import run_cli
from tests.prove.fuzz_paths import run_paths
from tests.prove.fuzz_provider import run_provider
from tests.prove.fuzz_servers import run_handshakes, run_requests
from tests.prove.leaks import run_leaks
from tests.prove.state_machine_runs import run_state_machine

CLASSES: Final[Mapping[str, Attack]] = {
    "state machine": run_state_machine,
    "fuzzing: requests": run_requests,
    "fuzzing: WebSocket handshakes": run_handshakes,
    "fuzzing: paths and organizations": run_paths,
    "fuzzing: hostile provider": run_provider,
    "fuzzing: command line": run_cli,
    "leaks": run_leaks,
}
LONGEST_SECONDS: Final = 1800.0

if __name__ == "__main__":
    sys.exit(run_suite("proof", CLASSES, longest_seconds=LONGEST_SECONDS))
