# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is who: the cluster's own authority, join tokens, node identity on disk, TLS contexts.

The only importer of cryptography.  Never in it: the network, the store, the decision whether a node may join.
"""
