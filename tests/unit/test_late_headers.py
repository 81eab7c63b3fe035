"""Headers that become texts when somebody asks for one."""

from __future__ import annotations

import copy
import pickle

from loopai.transports.headers import LateHeaders


def test_they_are_read_once_and_only_when_asked_for() -> None:
    """What has a name more than once is one text; a mapping like any other."""
    read = []

    def given() -> list[tuple[str, str]]:
        read.append(1)
        return [("content-type", "application/json"), ("via", "one"), ("via", "two")]

    headers = LateHeaders(given)
    assert not read
    assert headers == {"content-type": "application/json", "via": "one, two"}
    assert headers.get("retry-after") is None
    assert len(headers) == 2
    assert read == [1]


def test_they_show_no_text_and_can_be_taken_along() -> None:
    """A key in a header ends in no log; a copy is plain, as what it was read from may be of one process only."""
    headers = LateHeaders(lambda: [("set-cookie", "secret")])
    assert repr(headers) == "<headers set-cookie>"
    for made in (pickle.loads(pickle.dumps(headers)), copy.deepcopy(headers)):
        assert made == {"set-cookie": "secret"}
        assert type(made) is dict
