"""The maps in the packages' docstrings: a newcomer finds every room there."""

import importlib
import pkgutil
import re

import pytest

import peer
import protocol

PACKAGES = [
    module.name
    for root in (peer, protocol)
    for module in [
        pkgutil.ModuleInfo(None, root.__name__, True),
        *pkgutil.walk_packages(root.__path__, f"{root.__name__}."),
    ]
    if module.ispkg
]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_names_everything_that_is_in_it(name: str) -> None:
    package = importlib.import_module(name)
    rooms = [module.name for module in pkgutil.iter_modules(package.__path__)]
    missing = [room for room in rooms if not re.search(rf"\b{room}\b", package.__doc__ or "")]
    assert not missing
