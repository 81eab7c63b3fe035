"""Report references of tracked files to things outside the repository: home paths, registries, foreign addresses."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

# Reserved names and addresses (RFC 2606, RFC 6761), this machine, and identifiers that nobody fetches.
OWN_HOST = re.compile(
    r"^(localhost|127(\.\d+){3}|0\.0\.0\.0|\[?::1?\]?|192\.0\.2\.\d+|198\.51\.100\.\d+|203\.0\.113\.\d+|"
    r"(.*\.)?(example|test|invalid|localhost)|(.*\.)?example\.(com|org|net)|json-schema\.org|tools\.ietf\.org|www\.w3\.org)$"
)
ADDRESS = re.compile(r"\b(?:https?|postgres(?:ql)?|rediss?|amqps?)://[^\s\"'`<>)\]},;\\]+")
FOREIGN = [
    (re.compile(r"(?<![\w.$}/-])/(work|home|root|Users|opt|farm)/\w"), "a path of one machine"),
    (re.compile(r"\b(pypi[.]org|python[h]osted|registry[.]npmjs|deb[.]debian)"), "a package registry"),
    (re.compile(r"\b(CONTRACT|ARCHITECTURE|FIELD|STYLE)[.]md\b"), "a document that is not in the repository"),
    (re.compile(r"\b[Ii]ssue #?\d"), "an issue"),
]
# Recorded replies of another server, unchanged.
RECORDED = "tests/contract/recorded/"


def tracked() -> list[str]:
    """Return tracked files, and new ones that are not ignored: everything that a commit could contain."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True, capture_output=True
    )
    return sorted(name for name in listed.stdout.decode().split("\0") if name and Path(name).is_file())


def remarks(text: str) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [(number, f"{what}: {match[0]!r}") for pattern, what in FOREIGN for match in pattern.finditer(line)]
        for address in ADDRESS.findall(line):
            try:
                host = urlsplit(address).hostname or ""
            except ValueError:
                continue  # an incomplete address, as in tests of invalid addresses
            # An address without a dot is a made-up host, and one with a brace is filled in when the code runs.
            if "{" not in address and "." in host and not OWN_HOST.match(host):
                found.append((number, f"a foreign address: {address!r}"))
    return found


def main() -> int:
    outside = 0
    for name in tracked():
        if name.startswith(RECORDED):
            continue
        content = Path(name).read_bytes()
        if b"\0" in content[:8000] or name.endswith(".gz"):
            continue
        for number, remark in remarks(content.decode("utf-8", "replace")):
            print(f"{name}:{number}: {remark}")
            outside += 1
    if outside:
        print(f"{outside} references lead outside the repository", file=sys.stderr)
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
