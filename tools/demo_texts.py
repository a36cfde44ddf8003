"""Collect the texts of ``thawline demo --text`` from the documentation strings of Python's standard library.

    python tools/demo_texts.py

Writes src/thawline/data/demo_texts.tsv. Each text is the first paragraph of what Python says of a function, method or
class; its class is what the module is for. Texts that stand in modules of two classes, up to case, blanks and
punctuation, are left out.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from thawline.inputs.text.sketches import normal_form

MODULES = {
    "dates": "datetime time calendar zoneinfo",
    "files": "os os.path pathlib shutil tempfile glob zipfile tarfile io fileinput filecmp stat gzip bz2 lzma",
    "network": "socket ssl http.client http.server http.cookies urllib.request urllib.parse urllib.response ftplib "
    "smtplib imaplib poplib socketserver xmlrpc.client xmlrpc.server ipaddress",
    "numbers": "math cmath statistics decimal fractions random numbers operator",
    "processes": "subprocess threading multiprocessing.pool multiprocessing.context multiprocessing.managers "
    "multiprocessing.process multiprocessing.queues multiprocessing.shared_memory concurrent.futures asyncio signal "
    "queue sched contextvars",
}
SHORTEST, LONGEST = 4, 40
"""Words of a text."""
PER_CLASS = 130
PLACE = Path(__file__).parents[1] / "src" / "thawline" / "data" / "demo_texts.tsv"
_SIGNATURE = re.compile(r"^[\w.]+\(.*\)( -> .+)?$|^[\w.]+\([^)]*\) -> \S+( --? )?|^[\w.]+\([^)]*\) --? ")


def texts_of(module: str) -> Iterator[str]:
    """Yield what a module says of its public functions, classes and their methods."""
    held = importlib.import_module(module)
    for name, member in inspect.getmembers(held):
        home = getattr(member, "__module__", None)
        if name.startswith("_") or not (home is None or _same(home, module)):
            continue
        if inspect.isclass(member):
            yield from _first(member)
            for key, method in vars(member).items():
                if not key.startswith("_"):
                    yield from _first(method)
        elif callable(member):
            yield from _first(member)


def _same(home: str, module: str) -> bool:
    own = {"posix", "nt"} if module == "os" else {"posixpath", "genericpath"} if module == "os.path" else set()
    return home.lstrip("_").startswith(module.partition(".")[0]) or home in own


def _first(member: object) -> Iterator[str]:
    """Yield the first paragraph that is no signature."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    text = inspect.cleandoc(getattr(member, "__doc__", None) or "")
    for paragraph in text.split("\n\n"):
        line = _SIGNATURE.sub("", " ".join(paragraph.split())).strip()
        if line:
            if SHORTEST <= len(line.split()) <= LONGEST and line.isascii():
                yield line
            return


def main() -> None:
    classes, written = defaultdict(set), {}
    for label, modules in MODULES.items():
        for module in modules.split():
            for text in texts_of(module):
                classes[normal_form(text)].add(label)
                written.setdefault(normal_form(text), text)
    rows = sorted((label.pop(), written[form]) for form, label in classes.items() if len(label) == 1)
    with PLACE.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow(("text", "label"))
        for label in MODULES:
            held = [text for own, text in rows if own == label]
            print(label, len(held), file=sys.stderr)
            step = max(len(held) / PER_CLASS, 1)
            table.writerows((held[int(i * step)], label) for i in range(min(len(held), PER_CLASS)))


if __name__ == "__main__":
    main()
