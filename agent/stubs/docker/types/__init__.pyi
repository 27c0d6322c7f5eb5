# SPDX-License-Identifier: GPL-3.0-or-later
"""Types of the SDK."""
