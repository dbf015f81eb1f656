"""The text that a setting is given as: in its environment variable, or in a file as secrets often are."""

from __future__ import annotations

import re
from collections.abc import Mapping

from passbook.declarations import Declaration
from passbook.errors import Refused

#: At the end of a variable's name: the value stands in the file that it names.
IN_FILE = "_FILE"
_LONGEST_FILE = 65_536  # bytes


def text_of(declaration: Declaration, environ: Mapping[str, str]) -> str:
    """What a setting is given as, by its variable or in the file that `…_FILE` names; empty if it is not given.

    Raises `Refused` where both are given, and for a file that cannot be read.
    """
    in_file = declaration.variable + IN_FILE
    text, path = environ.get(declaration.variable, ""), environ.get(in_file, "").strip()
    if path:
        if text:
            raise Refused(f"{declaration.variable} and {in_file} are both set.", remedy="Leave one of them out.")
        text = _read(in_file, path)
    if "\0" in text:
        raise Refused(f"{declaration.variable} has a NUL character in it, which nothing here can have.")
    # An editor, and what makes secrets out of text, ends it with a line's end that nobody means.
    return re.sub(r"\r?\n\Z", "", text) if declaration.verbatim else text.strip()


def _read(variable: str, path: str) -> str:
    # The path is not repeated: it may be the secret itself, put into the wrong variable.
    remedy = "It names a file with the value alone, which the user who runs Passbook can read."
    try:
        with open(path, "rb") as file:
            held = file.read(_LONGEST_FILE + 1)
        if len(held) > _LONGEST_FILE:
            raise Refused(f"{variable} names a file of more than {_LONGEST_FILE} bytes.", remedy=remedy)
        text = held.decode()
    except OSError as error:
        raise Refused(f"{variable} names no file that can be read ({error.strerror}).", remedy=remedy) from None
    except ValueError:  # not UTF-8, or no path at all
        raise Refused(f"{variable} names no file of text in UTF-8.", remedy=remedy) from None
    if not text.strip("\r\n"):
        raise Refused(f"{variable} names a file that is empty.", remedy=remedy)
    return text
