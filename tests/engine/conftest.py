"""Tests of the engine trace and compile each kind of program once a module."""

import pytest

from grok.engine.program import Program


@pytest.fixture(scope="module", autouse=True)
def traces():
    """The traced functions that programs of equal signature and size share, as (key, functions).

    Tracing is most of the time of a short run. A test that needs new ones clears the list.
    """
    known: list[tuple[tuple, dict]] = []
    initialize = Program.__init__

    def initialize_with_known(
        program, template, slots, shared, compiled, traced=None, fused=None, is_eager=False
    ):
        if traced is None:
            key = (
                template.signature(),
                slots,
                sorted(shared),
                compiled,
                fused is not None,
                is_eager,
            )
            traced = next((functions for other, functions in known if other == key), None)
            if traced is None:
                traced = {}
                known.append((key, traced))
        initialize(program, template, slots, shared, compiled, traced, fused, is_eager)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "__init__", initialize_with_known)
        yield known


@pytest.fixture
def new_traces(traces):
    """For a test that changes the compiler: nothing traced before or in it is used again."""
    traces.clear()
    yield
    traces.clear()
