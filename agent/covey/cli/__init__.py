# SPDX-License-Identifier: GPL-3.0-or-later
"""`covey`: what the docker client has no words for, asked of the agent on this host."""
