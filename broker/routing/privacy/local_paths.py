"""Paths on somebody's own machine: homes, drives, shares, mounted media.

Rule: a path says where it is by its beginning. Behind another host's name (``https://example.org/home/a``) or in the
middle of a relative path (``src/home/page.ts``) the same letters are nobody's home.
"""

import re

from broker.routing.text.literals import LiteralRules

_NAME = r"[^\s/\\\"'<>|*?:\[{]"
_OPENING = r"[\s\"'=,\[(`:]"
_BEGINS = (
    r"(?:(?<![A-Za-z0-9_.)}\]/~@-])"  # behind nothing, a blank, a sign, a letter of another alphabet
    rf"|(?<={_OPENING}-[A-Za-z])"  # -I/home/anna, of a compiler or a shell
    rf"|(?<={_OPENING}@)"  # @/home/anna, a mention or curl's file
    r"|(?<=\\[nrt])"  # a line's end as programs write it
    r"|(?<=[\s\"'=,(`]/)"  # //home/anna
    r"|(?<=\.\./\.\.))"
)
_UNDER = (
    rf"|(?<={_OPENING}/(?:var|usr|nfs|net|mnt|srv))|(?<={_OPENING}/(?:data|home))|(?<={_OPENING}/export)"
    rf"|(?<={_OPENING}/volume\d)"
)
_HOME = re.compile(_BEGINS[:-1] + _UNDER + rf")/home(?:s|\d)?/{{1,4}}{_NAME}")
_MAC = re.compile(_BEGINS + rf"/Users/{_NAME}")
_MAC_FOLDER = re.compile(
    _BEGINS + r"/users/[^\s/]{1,64}/(?:documents|desktop|downloads|library|pictures|movies|music|public|\.\w)",
    re.IGNORECASE,
)
_BASH_ON_WINDOWS = re.compile(rf"(?<={_OPENING}/[A-Za-z])/(?i:users)/{_NAME}")
_ROOT = re.compile(_BEGINS + r"/root(?![\w-]|\.\w)")
_TILDE = re.compile(rf"(?<![A-Za-z0-9_/~.)\]}}])~(?:[a-z_][a-z0-9_-]{{0,31}})?[/\\]{_NAME}")
_DRIVE = re.compile(
    r"(?<=[A-Za-z])(?<![A-Za-z0-9][A-Za-z]):(?:\\{1,4}|/(?!/))"
    r"(?:(?i:users|documents and settings|program files|windows|temp)\b|[^\s\\/:*?\"'<>|]{2,64}(?:[\\/]|\.[A-Za-z]))"
)
_WINDOWS_HOME = re.compile(r"(?<![A-Za-z0-9_])(?i:users)\\{1,4}" + _NAME)
_SHARE = re.compile(
    r"(?<![\\A-Za-z0-9_\])}*+?^$])\\{2}(?:\\{2})?(?=[^\\\s]{0,64}[A-Za-z]{3})[A-Za-z0-9.-]{3,64}\\{1,2}[A-Za-z0-9$][^\s\\]{1,64}"
)
_ADDRESS = re.compile(r"(?:file|smb|afp|nfs|cifs):(?://|/[^\s\"'<>])", re.IGNORECASE)
_ELSEWHERE = re.compile(rf"://[^\s\"'<>]{{1,256}}?/(?:home|Users)/{_NAME}")
"""A home on a machine that is worked on from afar."""
_VARIABLE = re.compile(
    rf"\$(?:HOME|\{{HOME\}}|\{{env:HOME\}}|env:(?:USERPROFILE|HOME|APPDATA))[\\/]{_NAME}", re.IGNORECASE
)
_PERCENT = re.compile(r"%(?:userprofile|appdata|localappdata|homepath|onedrive)%", re.IGNORECASE)
_MOUNTED = re.compile(_BEGINS + rf"/(?:mnt|run/media|media|Volumes|sdcard|storage/(?:emulated|self)|data/data)/{_NAME}")

LOCAL_PATHS: LiteralRules = (
    ("/home", _HOME), ("/users/", _MAC), ("/users/", _MAC_FOLDER), ("/users/", _BASH_ON_WINDOWS), ("/root", _ROOT),
    ("~", _TILDE), (":\\", _DRIVE), (":/", _DRIVE), ("users\\", _WINDOWS_HOME), ("\\\\", _SHARE), ("file:/", _ADDRESS),
    ("smb:/", _ADDRESS), ("afp:/", _ADDRESS), ("nfs:/", _ADDRESS), ("cifs:/", _ADDRESS),
    *((scheme, re.compile(re.escape(scheme.removesuffix("://")) + _ELSEWHERE.pattern, re.IGNORECASE))
      for scheme in ("ssh://", "sftp://", "scp://", "rsync://", "vscode-remote://")),
     ("$home", _VARIABLE),
    ("${home", _VARIABLE), ("$env:", _VARIABLE), ("${env:", _VARIABLE), ("%userprofile%", _PERCENT),
    ("%appdata%", _PERCENT), ("%localappdata%", _PERCENT), ("%homepath%", _PERCENT), ("%onedrive%", _PERCENT),
    ("/mnt/", _MOUNTED), ("/run/media/", _MOUNTED), ("/media/", _MOUNTED), ("/volumes/", _MOUNTED),
    ("/sdcard/", _MOUNTED), ("/storage/", _MOUNTED), ("/data/data/", _MOUNTED),
)  # fmt: skip
"""Homes and what is mounted: the owner's rule."""

ANY_PATH: LiteralRules = (
    ("/", re.compile(r"(?<![A-Za-z0-9_.:/<)\]}~-])/(?:[\w.@+-]{1,64}/){1,32}[\w.@+-]{1,128}")),
    (":\\", re.compile(r"(?<=[A-Za-z]):\\{1,2}\w")),
    ("/home", re.compile(r"(?<![A-Za-z0-9_.])/home(?!\w)")),
)
"""Every path from the root: the strict rule."""
