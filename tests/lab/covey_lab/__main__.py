# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m covey_lab`: hands over to the command line."""

import sys

from covey_lab.cli import main

sys.exit(main(sys.argv[1:]))
