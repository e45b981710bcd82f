"""Pages as numbers: random operations against a plain list of holders."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loopcoder.cache.pages import PagePool


class Pages(RuleBasedStateMachine):
    """`held` has one entry for each reference of a user, `indexed` those of the prefix index."""

    @initialize(count=st.integers(0, 6))
    def begin(self, count: int) -> None:
        self.pool = PagePool(count)
        self.held: list[int] = []
        self.indexed: list[int] = []

    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        taken = self.pool.take(data.draw(st.integers(0, self.pool.free)))
        assert not set(taken) & {*self.held, *self.indexed}
        assert len(set(taken)) == len(taken)
        self.held += taken

    @precondition(lambda self: self.held or self.indexed)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        pages = data.draw(st.lists(st.sampled_from([*self.held, *self.indexed]), max_size=3))
        self.pool.share(pages)
        self.held += pages

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(self.held))
        self.held.remove(page)
        self.pool.release([page])

    @precondition(lambda self: set(self.held) - set(self.indexed))
    @rule(data=st.data())
    def index(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(sorted(set(self.held) - set(self.indexed))))
        self.held.remove(page)
        self.indexed.append(page)
        self.pool.index(page)

    @precondition(lambda self: self.indexed)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        page = data.draw(st.sampled_from(self.indexed))
        self.indexed.remove(page)
        self.pool.forget(page)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "pool"):
            return
        pool, held = self.pool, set(self.held)
        pool.check_integrity([self.held, self.indexed])
        assert pool.free == pool.count - len(held | set(self.indexed))
        assert pool.available == pool.count - len(held)
        assert all(pool.in_use(page) == (page in held) for page in range(pool.count))


Pages.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestPages = Pages.TestCase


def _fails(call: object) -> bool:
    try:
        call()
    except AssertionError:
        return True
    return False


def test_misuse_is_noticed() -> None:
    pool = PagePool(2)
    (page,) = pool.take(1)
    assert _fails(lambda: pool.take(2))
    assert _fails(lambda: pool.share([1 - page]))
    assert _fails(lambda: pool.forget(page))
    assert _fails(lambda: pool.check_integrity([]))
    assert _fails(lambda: pool.check_integrity([[page], [page]]))
    pool.index(page)
    assert _fails(lambda: pool.index(page))
    assert _fails(lambda: pool.release([page]))
