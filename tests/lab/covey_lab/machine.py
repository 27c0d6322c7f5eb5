# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts take over from this machine so that they reach the same registries: read from its files, never assumed.

No address of a registry stands in the lab: package sources, proxies, certificates and name servers are this machine's.
"""

import configparser
import os
from pathlib import Path

from covey_lab.run import LabError, run

CODENAME = "bookworm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP_KEPT = ("index-url", "proxy", "timeout")
APT_KEPT = ("acquire::http", "acquire::https", "acquire::check-", "acquire::retries", "acquire::languages")


def apt_sources() -> list[str]:
    """This machine's own Debian sources of the release the hosts run, one line each."""
    line = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    found = run("apt-get", "indextargets", "--format", line, "Created-By: Packages", "Origin: Debian").stdout.split(
        "\n"
    )
    sources = [source for source in dict.fromkeys(found) if source and _usable(source)]
    if not sources:
        raise LabError(f"apt knows no Debian {CODENAME} source on this machine: check /etc/apt, run `apt-get update`")
    return sources


def _usable(source: str) -> bool:
    """Of the hosts' release, and not a directory of this machine."""
    _, address, release, _ = source.split()
    return release.startswith(CODENAME) and not address.startswith(("file:", "copy:"))


def apt_settings() -> str:
    """Proxies and checks as this machine's apt has them."""
    lines = run("apt-config", "dump").stdout.splitlines()
    return "".join(f"{line}\n" for line in lines if line.lower().startswith(APT_KEPT))


def pip_settings() -> str:
    """Which index pip asks, if this machine says so; the certificates are those of the host."""
    kept = {"cert": str(CERTIFICATES)}
    for path in (Path("/etc/pip.conf"), Path.home() / ".pip/pip.conf", Path.home() / ".config/pip/pip.conf"):
        parser = configparser.RawConfigParser()
        parser.read(path)
        if parser.has_section("global"):
            kept |= {name: parser["global"][name] for name in PIP_KEPT if name in parser["global"]}
    for name in PIP_KEPT:
        if value := os.environ.get("PIP_" + name.upper().replace("-", "_")):
            kept[name] = value
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in kept.items())


def certificates() -> str:
    """This machine's certificate authorities, which may include a proxy's."""
    return CERTIFICATES.read_text()


def name_servers() -> str:
    """A resolv.conf that works from another network namespace: a stub on the loopback does not."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        servers = [line.split()[1] for line in lines if line.startswith("nameserver") and len(line.split()) > 1]
        if servers and not any(server.startswith("127.") or server == "::1" for server in servers):
            return "".join(f"{line}\n" for line in lines if line.startswith(("nameserver", "search", "options")))
    return ""
