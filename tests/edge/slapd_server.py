"""A real slapd with TLS on free ports, its configuration and data in a folder of its own. Loaded by test_ldap.py."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from opsbus.nats_server import free_port
from opsbus.testing.certificates import Authority

START_TIMEOUT_S = 30.0
ADMIN = "cn=admin,dc=shop,dc=example"
ADMIN_PASSWORD = "admin-secret-1"
READER = "cn=opsbus,ou=services,dc=shop,dc=example"
READER_PASSWORD = "reader-secret-2"

CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {folder}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
TLSCACertificateFile {ca}
TLSCertificateFile {cert}
TLSCertificateKeyFile {key}
# What some directories do by default: a name without a password is let in, as nobody.
allow bind_anon_cred bind_anon_dn
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{reader}" read by self read by anonymous auth by * none
database mdb
suffix "dc=shop,dc=example"
rootdn "{admin}"
rootpw {password}
directory {folder}/data
maxsize 10485760
overlay memberof
memberof-group-oc groupOfNames
"""

DATA = """\
dn: dc=shop,dc=example
objectClass: domain
dc: shop

dn: ou=people,dc=shop,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=services,dc=shop,dc=example
objectClass: organizationalUnit
ou: services

dn: ou=groups,dc=shop,dc=example
objectClass: organizationalUnit
ou: groups

dn: {reader}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: opsbus
userPassword: {password}

"""

PEOPLE = {
    "ada": "correct horse battery",
    "bob": "pässwört-ü",
    "carol": "no groups at all",
    "dave": "odd name",
    "eve": "eve-secret",
    "eve2": "eve-secret",
}
GROUPS = {"operators": ["ada", "bob"], "viewers": ["bob", "dave"], "Payroll, EU": ["eve"]}


def missing() -> str:
    """Why there can be no server; empty: there can."""
    for program in ("slapd", "slapadd"):
        if binary(program) is None:
            return f"{program} is not installed (Debian: slapd)"
    return "" if Path("/etc/ldap/schema/inetorgperson.schema").exists() else "the schemas of slapd are not installed"


def binary(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/openldap")


def dn(user: str) -> str:
    """A person's DN. dave's has characters that mean something in filters and in DNs."""
    if user == "dave":
        return "cn=Dave (Ops) *\\2C Jr\\5C.,ou=people,dc=shop,dc=example"
    return f"uid={user},ou=people,dc=shop,dc=example"


class Slapd:
    """A server process. ``url`` is ldaps://, ``plain_url`` ldap:// (for StartTLS)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.port, self.plain_port = free_port(), free_port()
        self.url, self.plain_url = f"ldaps://localhost:{self.port}", f"ldap://localhost:{self.plain_port}"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir()
        pair = self.authority.issue("localhost", names=["localhost"], server=True)
        values = {"folder": folder, "ca": self.authority.ca, "cert": pair.cert, "key": pair.key}
        self._config = folder / "slapd.conf"
        self._config.write_text(CONFIG.format(**values, reader=READER, admin=ADMIN, password=ADMIN_PASSWORD))
        ldif = folder / "data.ldif"
        ldif.write_text(DATA.format(reader=READER, password=READER_PASSWORD) + _people() + _groups(), encoding="utf-8")
        slapadd = binary("slapadd")
        assert slapadd is not None
        subprocess.run([slapadd, "-q", "-f", self._config, "-l", ldif], check=True, capture_output=True, timeout=60)

    def start(self) -> None:
        """Starts and waits until it takes connections."""
        slapd = binary("slapd")
        assert slapd is not None
        with (self.folder / "slapd.log").open("ab") as log:
            self._process = subprocess.Popen(
                # -d: stay in the foreground
                [slapd, "-f", self._config, "-h", f"{self.url}/ {self.plain_url}/", "-d", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        ends = time.monotonic() + START_TIMEOUT_S
        for port in (self.port, self.plain_port):
            while not _listens(port):
                assert self._process.poll() is None, (self.folder / "slapd.log").read_text()
                assert time.monotonic() < ends, "slapd does not start"
                time.sleep(0.02)

    def stop(self) -> None:
        """Ends it."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _people() -> str:
    entries = []
    for user, password in PEOPLE.items():
        cn = "Dave (Ops) *, Jr\\." if user == "dave" else user
        uid = "eve" if user == "eve2" else user
        lines = [f"dn: {dn(user)}", "objectClass: inetOrgPerson", f"cn: {cn}", f"sn: {user}", f"uid: {uid}"]
        if user == "eve2":
            lines.append("uid: eve2")
        # The overlay that keeps memberOf does not run while the data is loaded.
        lines += [f"memberOf: {_group(name)}" for name, members in GROUPS.items() if user in members]
        entries.append("\n".join([*lines, f"userPassword: {password}", ""]))
    return "\n".join(entries) + "\n"


def _groups() -> str:
    entries = []
    for group, members in GROUPS.items():
        lines = [f"dn: {_group(group)}", "objectClass: groupOfNames", f"cn: {group}"]
        entries.append("\n".join([*lines, *(f"member: {dn(one)}" for one in members), ""]))
    return "\n".join(entries) + "\n"


def _group(name: str) -> str:
    return "cn={},ou=groups,dc=shop,dc=example".format(name.replace(",", "\\,"))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("localhost", port)) == 0
