"""Which runs filters select, in a database in memory: no server, so each fact takes no time."""

from datetime import UTC, datetime

import pytest

from grok.errors import UserError
from grok.store import selection
from tests.store.memory import Database
from tests.store.selection_cases import CASES, FilterCases, ids


@pytest.fixture
def database() -> Database:
    return Database(CASES["runs"], CASES["sweeps"])


class TestFiltersInMemory(FilterCases):
    """The shared cases, in memory."""


def test_no_filter_is_the_empty_query(database):
    """MongoDB refuses an empty `$and`."""
    assert selection.select(database) == {}


def test_a_filter_is_cut_at_its_first_equals_sign(database):
    """Values may contain `=` and `..` a second time; a key never does."""
    assert selection.select(database, ["name=a=b"]) == {"$and": [{"config.name": "a=b"}]}
    path = selection.select(database, ["name=a..b..c"])
    assert path == {"$and": [{"config.name": {"$gte": "a", "$lte": "b..c"}}]}


def test_an_empty_list_is_the_empty_list():
    """`betas=[]` is no list of one empty text."""
    database = Database(
        [{"_id": 1, "config": {"betas": []}}, {"_id": 2, "config": {"betas": [""]}}]
    )
    assert ids(database, "betas=[]") == [1]


@pytest.mark.parametrize("name", ["1e3", "none", "a,b", "a..b", "[a]", "0x10"])
def test_the_name_of_a_claim_is_a_text(name):
    """It is no number, list or range: a claim may be called 1e3."""
    query = selection.select(Database(), [f"claim={name}"])
    finding = {"claim": name, "passed": True, "why": None}
    assert query == {"$and": [{"$or": [{"info.claims": {"$elemMatch": finding}}]}]}


def test_a_date_is_one_text():
    """ISO 8601 allows a comma before the fraction of a second; a range of dates is two filters."""
    half = datetime(2026, 1, 3, 0, 0, 0, 500_000, tzinfo=UTC)
    for key, operator in (("since", "$gte"), ("until", "$lt")):
        query = selection.select(Database(), [f"{key}=2026-01-03T00:00:00,5"])
        assert query == {"$and": [{"start_time": {operator: half}}]}
        with pytest.raises(UserError, match=rf"^{key}=2026-01-03\.\.: expected a date"):
            selection.select(Database(), [f"{key}=2026-01-03.."])


def test_a_list_in_brackets_names_no_sweep(database):
    """Sweeps are given as sweep=a,b."""
    with pytest.raises(UserError, match=r"^no sweep \['rates'\]"):
        selection.select(database, ["sweep=[rates]"])


def test_the_items_of_a_list_keep_their_letters(database):
    """Only the brackets are taken off a list; the items are read as other values are."""
    names = selection.select(database, ["names=[X,yX,2]"])
    assert names == {"$and": [{"config.names": ["X", "yX", 2]}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None),
        ("FALSE", False),
        ("-inf", -float("inf")),
        ("1e-3", 0.001),
        ("'a b'", "a b"),
        ("{1, 2}", "{1, 2}"),
        ("(1, 2)", "(1, 2)"),
        ("b'x'", "b'x'"),
        ("1j", "1j"),
        ("{'a': 1}", "{'a': 1}"),
    ],
)
def test_a_value_is_one_that_a_query_can_hold(text, value):
    """Sets, tuples, bytes and complex numbers cannot be in a MongoDB query and are texts."""
    assert selection._value(text) == value
    assert type(selection._value(text)) is type(value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"lr": (1e-3, 1e-2)}, [1, 2, 6]),
        ({"lr": (0.01, None)}, [2, 3]),
        ({"lr": (None, 0.01)}, [1, 2, 6]),
        ({"lr": (0.01, None), "seed": [1, 2]}, [2, 3]),
        ({"norm": None}, [1]),
        ({"norm": [None, "layer"]}, [1, 2]),
        ({"model.width": 128}, [2, 5]),
        ({"config.seed": 3}, [5, 6]),
        ({"sweep": "rates"}, [1, 2, 3]),
        ({"sweep": ["moduli", "w-7"]}, [5, 6]),
        ({"tag": ["odd", "small"]}, [4, 5]),
        ({"run": 3}, [3]),
        ({"claim": "-c3"}, [1]),
        ({"since": datetime(2026, 1, 4, tzinfo=UTC)}, [6, "named"]),
        ({"until": "2026-01-02"}, [1, 2, 3]),
    ],
)
def test_keywords_select_by_value_alternatives_and_range(database, wanted, expected):
    """A keyword's value is one value, a list of alternatives or a range, as scripts write them."""
    assert ids(database, **wanted) == expected
    assert ids(database, "run=..4", **wanted) == [run for run in expected if run in (1, 2, 3, 4)]


def test_a_claim_of_a_sweep_is_that_of_the_seeds_with_this_outcome(database):
    """Claim c3 holds for seeds 1 and 2 of sweep s-1; seed 0, and runs of other sweeps, are out."""
    of_sweep = {**selection.of_sweeps("s-1"), "config.seed": {"$in": [1, 2]}}
    of_run = {"info.claims": {"$elemMatch": {"claim": "c3", "passed": True, "why": None}}}
    assert selection.select(database, ["claim=c3"]) == {"$and": [{"$or": [of_run, of_sweep]}]}


def test_a_claim_may_have_hyphens_at_its_end(database):
    """Only the first hyphen is the negation, as in `claim=-a-`."""
    query = selection.select(database, claim="-a-")
    finding = {"claim": "a-", "passed": False, "why": None}
    assert query == {"$and": [{"$or": [{"info.claims": {"$elemMatch": finding}}]}]}


def test_a_time_without_a_zone_is_in_utc():
    """Runs are stored in UTC; the zone of the machine must not move the border."""
    moment = selection.select(Database(), ["since=2026-01-02T03:00"])["$and"][0]["start_time"]
    assert moment == {"$gte": datetime(2026, 1, 2, 3, tzinfo=UTC)}
    later = selection.select(Database(), ["until=2026-01-02T03:00+02:00"])["$and"][0]["start_time"]
    assert later == {"$lt": datetime(2026, 1, 2, 1, tzinfo=UTC)}
    with pytest.raises(UserError, match=r"^since=noon: expected a date"):
        selection.select(Database(), since="noon")


@pytest.mark.parametrize("filters", ["p", "=1", "p = 1", ""])
def test_a_filter_has_a_key_and_an_equals_sign(database, filters):
    """A text that is no filter is refused; the shell splits `p = 1` into such texts."""
    texts = filters.split() or [""]
    with pytest.raises(UserError, match="expected KEY=VALUE, as experiment=liu_toy or p=10"):
        selection.select(database, texts)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("sweep=s_1", "no sweep s_1; did you mean s-1?"),
        ("sweep=rate", "no sweep rate; did you mean rates?"),
        ("experiment=liu_toi", "no run with experiment=liu_toi; did you mean liu_toy?"),
        ("experiment=liu=toy", "no run with experiment=liu=toy; did you mean liu_toy?"),
        ("status=COMPLETE", "no run with status=COMPLETE; did you mean COMPLETED?"),
        ("run=name", "no run with run=name; did you mean named?"),
        ("tag=cpus", "no run with tag=cpus"),
        ("operatoin=x_plus_y", "no run with operatoin=x_plus_y; did you mean operation?"),
        ("operatoin=a=b", "no run with operatoin=a=b; did you mean operation?"),
        ("config.operatoin=1", "no run with config.operatoin=1; did you mean operation?"),
        ("experimant=nanda", "no run with experimant=nanda; did you mean experiment?"),
        ("model.widht=128", "no run with model.widht=128"),
        ("claim=c9", "no run with claim=c9"),
        ("since=2027-01-01", "no run with since=2027-01-01"),
        ("p=11", "no run with p=11"),
        ("run=2 p=11", "no run with p=11"),
        ("run=2 seed=3", "no run with all of run=2 seed=3"),
    ],
)
def test_what_selects_no_run_names_the_filter_and_a_near_match(database, filters, message):
    """The message names the first filter that no run meets, and a name only if one is like it."""
    with pytest.raises(UserError) as caught:
        selection.select_nonempty(database, iter(filters.split()))
    assert str(caught.value) == message


def test_a_filter_that_meets_runs_gives_its_query_and_their_number(database):
    """The number is what `grok store` says before it deletes or exports."""
    query, count = selection.select_nonempty(database, iter(["experiment=liu_toy", "lr=0.01.."]))
    assert count == 2
    assert query == selection.select(database, ["experiment=liu_toy", "lr=0.01.."])


def test_an_empty_store_says_so_and_another_does_not():
    """A store whose runs have other ids than 1 is not empty."""
    with pytest.raises(UserError, match="no run in the store yet"):
        selection.select_nonempty(Database(), ["p=1"])
    other = Database([{"_id": 7, "config": {"p": 5}}])
    with pytest.raises(UserError, match=r"^no run with p=1$"):
        selection.select_nonempty(other, ["p=1"])


def test_a_sweep_of_another_server_is_known_by_its_runs():
    """W&B keeps its own sweeps; their ids are in the runs alone, and a run's id is no sweep's."""
    database = Database([{"_id": 1, "config": {}, "meta": {"sweep": {"id": "abc123"}}}])
    assert ids(database, "sweep=abc123") == [1]
    with pytest.raises(UserError, match=r"^no sweep abc124$"):
        selection.select(database, ["sweep=abc124"])


def test_a_sweep_has_the_runs_of_agents_too():
    """`wandb agent` starts runs that have the sweep's id in `info.wandb`."""
    runs = [
        {"_id": 1, "meta": {"sweep": {"id": "s-1", "point": 0}}, "info": {}},
        {"_id": 2, "meta": {}, "info": {"wandb": {"sweep": "s-1", "run": "a"}}},
        {"_id": 3, "meta": {}, "info": {"wandb": {"sweep": "s-2", "run": "b"}}},
    ]
    database = Database(runs, [{"_id": "s-1", "name": "rates", "created": 1}])
    assert ids(database, "sweep=s-1") == ids(database, "sweep=rates") == [1, 2]
    assert ids(database, "sweep=s-2") == [3]  # of W&B's own server: known by its runs only
    assert ids(database, "sweep=s-1,s-2") == [1, 2, 3]
