"""The command line as a module: `python -m fastapi_logto`."""

import sys

from fastapi_logto.cli import main

if __name__ == "__main__":
    sys.exit(main())
