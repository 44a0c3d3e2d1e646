"""Records behave as `dataclass(frozen=True, slots=True)` does."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace

import pytest

from zeptodb.record import record


@record
class Quote:
    """Fields of every sort."""

    symbol: str
    bid: float = 1.0
    sizes: list[int] = field(default_factory=list)
    note: str = field(default="", repr=False, compare=False)
    length: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.symbol))


@record
class Ask(Quote):
    """A record with one field more."""

    ask: float = 2.0


@record
class Nothing:
    """No fields."""


@record
class ByName:
    """Compares and prints itself."""

    name: str
    value: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByName) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


@record
class Longer(ByName):
    """Compares all fields again."""

    length: int = 0


@record(frozen=False)
class Counter:
    """Changes."""

    count: int = 0


@record(kw_only=True)
class ByKeyword:
    """Settings."""

    host: str
    port: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeywordAlike:
    """The same as a dataclass."""

    host: str
    port: int = 1


@dataclass(frozen=True, slots=True)
class PointAlike:
    """`Point` as a dataclass."""

    x: int
    y: int


@record(eq=False)
class Place:
    """Is equal to itself only."""

    x: int


@dataclass(frozen=True, slots=True)
class Alike:
    """What `Quote` would be as a dataclass."""

    symbol: str
    bid: float = 1.0
    sizes: list[int] = field(default_factory=list)
    note: str = field(default="", repr=False, compare=False)
    length: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", len(self.symbol))


@record
class Point:
    """Hashable."""

    x: int
    y: int


def test_instances_are_made_by_place_name_and_default():
    quote = Quote("A", sizes=[1])
    assert (quote.symbol, quote.bid, quote.sizes, quote.note, quote.length) == ("A", 1.0, [1], "", 1)
    assert Quote("A").sizes is not Quote("A").sizes


@pytest.mark.parametrize("arguments", [((), {}), (("A", 1.0, [], "", 1), {}), (("A",), {"size": 1})])
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(TypeError):
        Quote(*arguments[0], **arguments[1])


def test_an_instance_cannot_be_changed_and_has_no_other_attributes():
    quote = Quote("A")
    for change in (lambda: setattr(quote, "bid", 2.0), lambda: delattr(quote, "bid"), lambda: setattr(quote, "x", 1)):
        with pytest.raises(FrozenInstanceError):
            change()
    assert not hasattr(quote, "__dict__")


def test_equal_fields_of_the_same_class_make_equal_records_with_equal_hashes():
    assert Point(1, 2) == Point(1, 2)
    assert hash(Point(1, 2)) == hash(Point(1, 2))
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != (1, 2)
    assert Quote("A", note="x") == Quote("A", note="y")
    assert Quote("A") != Ask("A")
    assert Nothing() == Nothing()
    assert len({Nothing(), Nothing(), Point(1, 2), Point(1, 2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Quote("A"))  # it holds a list


def test_methods_of_the_class_are_kept():
    assert ByName("a", 1) == ByName("a", 2)
    assert len({ByName("a", 1), ByName("a", 2)}) == 1
    assert repr(ByName("a", 1)) == "a"


def test_a_record_of_one_that_compares_itself_compares_fields():
    assert Longer("a", 1) != Longer("a", 2)
    assert hash(Longer("a", 1)) != hash(Longer("a", 2))
    assert Longer("a", 1) == Longer("a", 1, 0)


def test_what_can_change_has_no_hash_and_no_other_attributes():
    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)
    with pytest.raises(AttributeError):
        counter.other = 1
    del counter.count
    assert not hasattr(counter, "count")


def test_without_eq_a_record_is_equal_to_itself_only():
    place = Place(1)
    assert place != Place(1)
    assert len({place, place, Place(1)}) == 2


def test_fields_by_name_only():
    assert ByKeyword(host="a") == ByKeyword(port=1, host="a")
    with pytest.raises(TypeError):
        ByKeyword("a")
    assert [f.kw_only for f in fields(ByKeyword)] == [True, True]
    assert replace(ByKeyword(host="a"), port=2) == ByKeyword(host="a", port=2)


def test_the_signature_is_that_of_a_dataclass_before_and_after_the_first_instance():
    for given, alike in ((ByKeyword, KeywordAlike), (Point, PointAlike), (Point, PointAlike)):
        assert inspect.signature(given) == inspect.signature(alike)
        Point(1, 2)


def test_a_base_must_be_a_record():
    with pytest.raises(TypeError, match="make it a dataclass"):

        @record
        class Error(ValueError):
            code: int


def test_a_record_of_a_record_has_the_fields_of_both_whichever_is_made_first():
    assert repr(Quote("A")) == "Quote(symbol='A', bid=1.0, sizes=[])"
    assert repr(Ask("A", ask=3.0)) == "Ask(symbol='A', bid=1.0, sizes=[], ask=3.0)"
    assert isinstance(Ask("A"), Quote)


def test_records_are_matched_by_place():
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))])
def test_copies_are_equal_and_whole(again):
    quote = Ask("A", 2.0, [1], "note", 3.0)
    assert again(quote) == quote
    assert (again(quote).note, again(quote).length) == ("note", 1)


def test_the_functions_of_dataclasses_work():
    quote = Quote("A", 2.0)
    assert is_dataclass(Quote)
    assert replace(quote, symbol="BC") == Quote("BC", 2.0)
    assert replace(quote, symbol="BC").length == 2
    assert asdict(quote) == asdict(Alike("A", 2.0))
    described = [(f.name, f.type, f.default, f.init, f.repr, f.compare) for f in fields(Quote)]
    assert described == [(f.name, f.type, f.default, f.init, f.repr, f.compare) for f in fields(Alike)]
    assert [f.name for f in fields(Ask)] == [*(f.name for f in fields(Quote)), "ask"]


def test_the_text_is_that_of_a_dataclass():
    assert repr(Quote("A", 2.0)) == repr(Alike("A", 2.0)).replace("Alike", "Quote")
