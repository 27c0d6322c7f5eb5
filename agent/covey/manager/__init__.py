# SPDX-License-Identifier: GPL-3.0-or-later
"""A manager's life: the cluster server on 2377, who votes, and what runs only while this manager leads."""
