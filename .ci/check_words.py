"""Report house words in the guides and the package, with the usual term to write instead."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

WORDS = {
    r"\bration(s|ed|ing)\b": "rate limited",
    r"\b(goes|go|going) on\b(?! the| a| to| with)": "continue",
    r"\b(is|was|be) no (UUID|JSON|CSV|number|object|error|text|option|address|event|mapping|dialect)\b": "is not a …",
    r"\b(is|be|are) at it\b": "worker, in progress",
    r"\bends? as (an error|unreachable)\b": "fails",
    r"\bNobody need\b": "You never need to …",
    r"\bhopeless\b": "not retryable",
    r"\bcome but once\b": "one-pass",
    r"\bas ever\b": "as usual",
    r"\b(is|are|be) looked for\b": "check, search",
    r"\btime-outs?\b": "timeout",
    r"\b(no|without) bound\b": "no limit",
    r"\b[Gg]ives? the exit code\b": "return the exit code",
    r"\b[Nn]othing need be\b": "needs no …",
    r"\basked for at\b": "called for",
    r"\btravels? (together|as one)\b": "are sent together",
    r"\bis no (Parquet|dialect|pipe|folder)\b": "is not a …",
    r"\bof whom\b": "the method and URL",
}
PATTERNS = [(re.compile(pattern), better) for pattern, better in WORDS.items()]
READ = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "loopai/*.py", "loopai/*.html")


def main() -> int:
    listed = subprocess.run(["git", "ls-files", "-z", "--", *READ], check=True, capture_output=True, text=True).stdout
    found = 0
    for name in filter(None, listed.split("\0")):
        for number, line in enumerate(Path(name).read_text(encoding="utf-8").splitlines(), 1):
            for pattern, better in PATTERNS:
                for match in pattern.finditer(line):
                    print(f"{name}:{number}: {match[0]!r}: write {better!r}")
                    found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
