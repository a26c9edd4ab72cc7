"""What servers keep for the calls of an Executor: told here, without servers."""

from __future__ import annotations

from dispycos.actors.pool.kept import After, Install, Missing, kept


def test_a_call_runs_only_where_what_it_needs_is_kept() -> None:
    made: list[str] = []
    setup = kept(made.append, "once")
    call = After(setup.key, divmod)
    assert call(7, 2) == Missing(setup.key)
    Install(setup)(*setup.args)
    Install(setup)(*setup.args)
    assert call(7, 2) == (3, 1)
    assert made == ["once"]


def test_one_that_fails_is_made_again_when_it_is_asked_for_again() -> None:
    given = iter([0, 1])
    setup = kept(lambda: 1 // next(given))
    try:
        Install(setup)(*setup.args)
    except ZeroDivisionError:
        pass
    assert After(setup.key, int)() == Missing(setup.key)
    Install(setup)(*setup.args)
    assert After(setup.key, int)() == 0


def test_it_has_the_name_of_its_function() -> None:
    assert After("key", divmod).__name__ == "divmod"
