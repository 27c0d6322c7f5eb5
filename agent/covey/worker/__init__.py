# SPDX-License-Identifier: GPL-3.0-or-later
"""From assignments to running containers: the decisions are in ``machine``, everything else carries them out."""
