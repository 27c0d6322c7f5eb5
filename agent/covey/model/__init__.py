# SPDX-License-Identifier: GPL-3.0-or-later
"""The nouns: specs, objects, the task ladder, changes, units, errors.  Pure; imports no other room."""
