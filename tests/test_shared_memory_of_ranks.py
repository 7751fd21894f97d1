"""Memory that another process finds, and what it takes for another one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from cgc_fast.engines.messages.shared_memory import Offer, find

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nothing is found without /proc")


def test_what_is_written_there_is_here():
    with closing(Offer(5)) as offer:
        offer.values[:] = np.arange(5)
        names = "from cgc_fast.engines.messages.shared_memory import Place, find"
        code = f"{names}; values = find({offer.place!r}); values += 1.0"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert offer.values.tolist() == [1, 2, 3, 4, 5]


def test_memory_outlives_the_offer():
    with closing(Offer(5)) as offer:
        found = find(offer.place)
        assert found is not None
        offer.close()
        assert find(offer.place) is None
        found[:] = 7
        assert offer.values.tolist() == [7] * 5


def test_nothing_else_is_taken_for_it(tmp_path):
    with closing(Offer(5)) as offer:
        with closing(Offer(5)) as other:  # which has another token
            assert find(dataclasses.replace(offer.place, descriptor=other.place.descriptor)) is None
        assert find(dataclasses.replace(offer.place, process_id=2**22 + 1)) is None  # no such process
        assert find(dataclasses.replace(offer.place, size=1 << 20)) is None  # more than there is
        read, write = os.pipe()
        assert find(dataclasses.replace(offer.place, descriptor=read)) is None  # no memory
        os.close(read)
        os.close(write)
        with open(tmp_path / "file", "w+b") as file:
            file.write(bytes(offer.place.size))
            file.flush()
            assert find(dataclasses.replace(offer.place, descriptor=file.fileno())) is None


def test_an_empty_piece():
    with closing(Offer(0)) as offer:
        found = find(offer.place)
        assert found is not None
        assert len(found) == 0


def test_what_is_not_to_be_found_has_no_place():
    before = os.listdir("/proc/self/fd")
    offer = Offer(5, to_be_found=False)
    offer.values[:] = 7
    assert offer.place is None
    assert os.listdir("/proc/self/fd") == before
    assert offer.values.tolist() == [7] * 5
    offer.close()
