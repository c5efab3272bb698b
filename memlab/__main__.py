"""`python -m memlab`: the way in when the command is not on the path (under sudo, say)."""

import sys

from memlab.cli.main import main

sys.exit(main())
