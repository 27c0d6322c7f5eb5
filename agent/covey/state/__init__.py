# SPDX-License-Identifier: GPL-3.0-or-later
"""The replicated state machine as a pure function: an immutable View, ``apply``, the codec."""
