# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host's packet filter does for published ports; never a word about tasks or engines."""
