"""The locks of the environment: what runs and analysis need, and what only developers need besides."""

import configparser
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[1]
SETTINGS = configparser.ConfigParser()
SETTINGS.read(PROJECT / "setup.cfg")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(lock: str) -> dict[str, str]:
    """The version of each package of a lock."""
    lines = (PROJECT / lock).read_text().splitlines()
    pairs = (line.partition(";")[0].strip().split("==") for line in lines)
    return {normal(name): version for name, version in pairs}


def required(section: str, key: str) -> list[Requirement]:
    """The requirements in a value of setup.cfg."""
    lines = SETTINGS[section][key].splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


INCENSE = {"jupyterlab": "ipython"}  # what incense asks for, and what it imports of that


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Names of the packages that these requirements bring into this environment."""
    found: set[tuple[str, str]] = set()
    wanted = list(requirements)
    while wanted:
        one = wanted.pop()
        for extra in ("", *one.extras):
            if (normal(one.name), extra) in found:
                continue
            found.add((normal(one.name), extra))
            try:
                own = map(Requirement, distribution(one.name).requires or [])
            except PackageNotFoundError:  # another platform's
                continue
            if one.name == "incense":
                own = (Requirement(INCENSE.get(r.name, r.name)) for r in own)
            wanted += [r for r in own if not r.marker or r.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def test_the_lock_has_nothing_that_only_notebooks_or_tests_need():
    """It is what `make demo` and the container install, so a package too many is paid for by all."""
    lock = pinned("requirements-lock.txt")
    needed = closure(required("options", "install_requires"))
    assert lock.keys() - needed == set()
    assert not {"jupyterlab", "notebook-shim", "pytest", "playwright"} & lock.keys()


def test_the_lock_is_complete():
    """A package that is needed and not in it would change by itself; `make demo` installs incense
    without its dependencies, so that JupyterLab stays out."""
    assert (
        closure(required("options", "install_requires")) - pinned("requirements-lock.txt").keys()
        == set()
    )


def test_every_requirement_is_pinned_once():
    """A package that is in no lock changes by itself; one in both could have two versions."""
    lock, further = pinned("requirements-lock.txt"), pinned("requirements-dev-lock.txt")
    assert not lock.keys() & further.keys()
    for one in required("options", "install_requires"):
        assert one.specifier.contains(lock[normal(one.name)], prereleases=True), one
    for extra in ("notebook", "dev"):
        for one in required("options.extras_require", extra):
            version = (further | lock)[normal(one.name)]
            assert one.specifier.contains(version, prereleases=True), one
