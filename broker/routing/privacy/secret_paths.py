"""Paths where keys and passwords are kept."""

import re

from broker.routing.text.literals import Finder, anywhere, matching, of_one_length
from broker.routing.text.work import Work

_NAMED = (
    ".ssh/", ".ssh\\", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "authorized_keys", ".gnupg", ".aws/credentials",
    ".aws/config", ".aws\\credentials", ".kube/config", ".docker/config.json", "application_default_credentials",
    ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd", ".my.cnf", ".mylogin.cnf",
    ".vault-token", ".vault_pass", "/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/master.passwd",
    "/etc/ssl/private", "/etc/wireguard", "/run/secrets/", "/root/.", "wallet.dat", "cookies.sqlite", "logins.json",
    "key4.db", "login data", ".password-store", "ntuser.dat", ".s3cfg", ".boto", ".config/gh/hosts.yml",
    ".terraform.d/credentials", "login.keychain", ".keychain-db", "unattend.xml", ".smbcredentials", ".cifs",
)  # fmt: skip
_ENV_FILE = re.compile(r"(?<![\w)\]}])\.env(?:\.(?!example|sample|template|dist)[\w-]+)?(?![\w.-])", re.IGNORECASE)
_KEY_FILE = re.compile(r"(?<=[\w-])\.(?:pem|p12|pfx|kdbx|keystore|jks|ppk|ovpn)\b", re.IGNORECASE)
_RULES = (
    (".env", _ENV_FILE),
    *((ending, _KEY_FILE) for ending in (".pem", ".p12", ".pfx", ".kdbx", ".keystore", ".jks", ".ppk", ".ovpn")),
)


_FINDER = Finder(
    [*((True, path, anywhere) for path in _NAMED), *((True, literal, check) for literal, check in matching(_RULES))]
)


def names_a_secret_path(text: str, work: Work) -> bool:
    """Does the text name a file that holds secrets?

    Raises:
        TooCostlyError
    """
    return _FINDER.find(of_one_length(text), work) is not None
